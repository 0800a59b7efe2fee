//! System call filters, one per kind of thread.
//!
//! A thread that asks for anything else gets SIGSYS. The handler says which call it was on standard error and ends
//! the VM with that as its reason, so that a missing table entry is a report and not a riddle.

use std::io;

use libc::{c_ulong, sock_filter, sock_fprog};

use super::filters;
use crate::faults;

/// What a thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind<'a> {
    /// The main thread: control socket, console, the end.
    Control,
    /// Runs the guest.
    Vcpu,
    /// Serves a debugger.
    Debugger,
    /// Starts and stops device workers; its filter is inherited by them.
    DeviceManager,
    /// The main thread of a vhost-user back end, which starts its workers.
    BackEnd,
    /// A thread of a virtio device, by the thread's name: `virtio-net`, or `virtio-net-1` for a further one.
    DeviceWorker(&'a str),
}

impl ThreadKind<'_> {
    /// The filter of this kind of thread, by the name of its table.
    fn filter(self) -> &'static [sock_filter] {
        let (name, others) = match self {
            Self::Control => ("control", None),
            Self::Vcpu => ("vcpu", None),
            Self::Debugger => ("debugger", None),
            Self::DeviceManager => ("device-manager", None),
            Self::BackEnd => ("back-end", None),
            // Devices that need no more than an event loop have no table of their own.
            Self::DeviceWorker(name) => (
                name.trim_end_matches(|c: char| c == '-' || c.is_ascii_digit()),
                Some("device-worker"),
            ),
        };
        let find = |name| filters::ALL.iter().find(|(known, _, _)| *known == name);
        let found = find(name).or_else(|| others.and_then(find));
        // A filter of no instructions is refused by the kernel, so that a name without one cannot pass.
        found.map_or(&[], |(_, program, _)| program)
    }
}

/// Whether threads install their filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// They do.
    On,
    /// Everything passes.
    Off,
}

impl Filters {
    /// Installs the filter on the calling thread, for good. The thread must have `no_new_privs` set.
    pub fn install(self, kind: ThreadKind<'_>) -> io::Result<()> {
        match self {
            Self::On => install(kind.filter()),
            Self::Off => Ok(()),
        }
    }
}

fn install(filter: &'static [sock_filter]) -> io::Result<()> {
    let program = sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    let mode = c_ulong::from(libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: the program is valid for the call, which only reads it.
    match unsafe { libc::syscall(libc::SYS_seccomp, mode, 0 as c_ulong, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// SIGSYS is delivered at the refused call, so this runs like an ordinary function in its place: no lock of this
/// crate or of the allocator is held around a call that any table leaves out.
pub(crate) extern "C" fn refused(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // `si_syscall` follows three ints, padding and a pointer (sigaction(2)).
    let number = if info.is_null() {
        -1
    } else {
        // SAFETY: the kernel passes a filled siginfo_t of 128 bytes, aligned for any of its members.
        unsafe { info.cast::<i32>().add(6).read() }
    };
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    faults::end(format!(
        "system call {number} is not in the filter of thread {thread}; report this, or set sandbox.seccomp to false"
    ));
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
