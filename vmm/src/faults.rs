//! Signals by which the kernel says that something cannot be done: the VM ends with a report that says what it was, or, where
//! the call that failed has an error to return as well, goes on.
//!
//! | signal | when | what becomes of it |
//! | --- | --- | --- |
//! | `SIGSYS` | a system call is not in the thread's filter | the VM ends ([`seccomp`](crate::sandbox::seccomp)) |
//! | `SIGBUS` | a mapped file is shorter than it was, or its disk or the memory itself is broken | the VM ends |
//! | `SIGXFSZ` | a file would become longer than `sandbox.rlimits.fsize` | ignored: the write fails |

use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};

use nix::unistd::{Pid, getpid, gettid};
use vmm_sys_util::signal::register_signal_handler;

use crate::exit::{EXIT_FILE, ExitReason, ExitReport, Sync, write_json_at};
use crate::exit_signal::ExitSignal;
use crate::log;
use crate::sandbox::seccomp;

struct Reporter {
    exit: Arc<ExitSignal>,
    run_dir: File,
    control_thread: Pid,
}

static REPORTER: OnceLock<Reporter> = OnceLock::new();

/// Makes faults known. Call on the control thread, before any filter is installed.
pub fn install_reporter(exit: Arc<ExitSignal>, run_dir: File) -> io::Result<()> {
    let _ = REPORTER.set(Reporter {
        exit,
        run_dir,
        control_thread: gettid(),
    });
    install_handlers()
}

/// The same for a process without a VM: a fault ends it.
pub fn install_handlers() -> io::Result<()> {
    // SAFETY: nothing runs when an ignored signal comes.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    register_signal_handler(libc::SIGBUS, memory_lost)?;
    register_signal_handler(libc::SIGSYS, seccomp::refused)?;
    Ok(())
}

/// What to say of memory that is not there any more.
pub const MEMORY_LOST: &str = "a file that backs the guest's memory (its kernel, or a pmem file) was cut short, or its disk or the host's \
     memory is broken";

/// SIGBUS is delivered at the access, which is one to guest memory: no lock of the allocator is held around those.
extern "C" fn memory_lost(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    end(format!("thread {thread} finds memory gone: {MEMORY_LOST}"));
}

/// Ends the VM from a signal handler; the thread does nothing more.
pub(crate) fn end(message: String) -> ! {
    log::say(&message);
    let Some(reporter) = REPORTER.get() else {
        std::process::abort()
    };
    let report = ExitReport::new(ExitReason::Error, message);
    if gettid() == reporter.control_thread || gettid() == getpid() {
        let _ = write_json_at(&reporter.run_dir, EXIT_FILE, Sync::Yes, &report);
        // SAFETY: ends the process at once, without running anything that may be in the middle of something.
        unsafe { libc::_exit(ExitReason::Error.process_status()) };
    }
    reporter.exit.raise(report);
    loop {
        std::thread::park();
    }
}
