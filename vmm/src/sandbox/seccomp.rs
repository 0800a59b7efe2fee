//! System call filters, one per kind of thread, built from the tables in [`super::tables`].
//!
//! A thread that asks for anything else gets SIGSYS. The handler says which call it was on standard error and ends
//! the VM with that as its reason, so that a missing table entry is a report and not a riddle.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};

use nix::unistd::{Pid, getpid, gettid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use vmm_sys_util::signal::register_signal_handler;

use super::tables::{self, Allowed};
use crate::exit::{EXIT_FILE, ExitReason, ExitReport, Sync, write_json_at};
use crate::exit_signal::ExitSignal;

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind {
    /// The main thread: control socket, console, the end.
    Control,
    /// Runs the guest.
    Vcpu,
    /// Starts and stops device workers; its filter is inherited by them.
    DeviceManager,
    /// One virtio device.
    DeviceWorker,
}

/// Compiled filters; empty when the configuration turns them off.
pub struct Filters {
    control: BpfProgram,
    vcpu: BpfProgram,
    device_manager: BpfProgram,
    device_worker: BpfProgram,
}

impl Filters {
    /// Filters that let everything pass.
    #[must_use]
    pub fn off() -> Self {
        Self {
            control: vec![],
            vcpu: vec![],
            device_manager: vec![],
            device_worker: vec![],
        }
    }

    /// Compiles the tables.
    pub fn compile() -> io::Result<Self> {
        Ok(Self {
            control: compile(&[tables::EVERY_THREAD, tables::CONTROL])?,
            vcpu: compile(&[tables::EVERY_THREAD, tables::VCPU])?,
            // Workers stack their own filter on this one, so it must allow all that they may.
            device_manager: compile(&[
                tables::EVERY_THREAD,
                tables::DEVICE_WORKER,
                tables::DEVICE_MANAGER,
            ])?,
            device_worker: compile(&[tables::EVERY_THREAD, tables::DEVICE_WORKER])?,
        })
    }

    /// Installs the filter on the calling thread.
    pub fn install(&self, kind: ThreadKind) -> io::Result<()> {
        let program = match kind {
            ThreadKind::Control => &self.control,
            ThreadKind::Vcpu => &self.vcpu,
            ThreadKind::DeviceManager => &self.device_manager,
            ThreadKind::DeviceWorker => &self.device_worker,
        };
        if program.is_empty() {
            return Ok(());
        }
        seccompiler::apply_filter(program).map_err(io::Error::other)
    }
}

fn compile(lists: &[&[Allowed]]) -> io::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut unconditional = Vec::new();
    for allowed in lists.iter().copied().flatten() {
        match *allowed {
            Allowed::Call(number) => unconditional.push(number),
            Allowed::Argument { call, argument, is } => {
                let condition =
                    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(is));
                let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
                rules
                    .entry(call)
                    .or_default()
                    .push(rule.map_err(io::Error::other)?);
            }
            Allowed::WithoutBits { call, argument, bits } => {
                let operator = SeccompCmpOp::MaskedEq(u64::from(bits));
                let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, 0);
                let rule = condition.and_then(|condition| SeccompRule::new(vec![condition]));
                rules
                    .entry(call)
                    .or_default()
                    .push(rule.map_err(io::Error::other)?);
            }
        }
    }
    // A call that one table allows without conditions must not get conditions from another.
    for number in unconditional {
        rules.insert(number, Vec::new());
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .map_err(io::Error::other)?;
    filter.try_into().map_err(io::Error::other)
}

struct Reporter {
    exit: Arc<ExitSignal>,
    run_dir: File,
    control_thread: Pid,
}

static REPORTER: OnceLock<Reporter> = OnceLock::new();

/// Makes refused system calls known. Call on the control thread, before any filter is installed.
pub fn install_reporter(exit: Arc<ExitSignal>, run_dir: File) -> io::Result<()> {
    let _ = REPORTER.set(Reporter {
        exit,
        run_dir,
        control_thread: gettid(),
    });
    register_signal_handler(libc::SIGSYS, refused).map_err(io::Error::from)
}

/// SIGSYS is delivered at the refused call, so this runs like an ordinary function in its place: no lock of this
/// crate or of the allocator is held around a call that any table leaves out.
extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // `si_syscall` follows three ints, padding and a pointer (sigaction(2)).
    let number = if info.is_null() {
        -1
    } else {
        // SAFETY: the kernel passes a filled siginfo_t of 128 bytes, aligned for any of its members.
        unsafe { info.cast::<i32>().add(6).read() }
    };
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let message = format!(
        "system call {number} is not in the filter of thread {thread}; report this, or set sandbox.seccomp to false"
    );
    eprintln!("virga-vmm: {message}");
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

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
