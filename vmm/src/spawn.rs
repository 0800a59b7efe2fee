//! Starts a program as the first process of a pid namespace, from which it sees and signals nobody else.
//!
//! A process cannot enter a pid namespace itself, and a `virga-vmm` that forked to get into one would leave a second
//! process behind for each VM. So whoever starts it makes the namespace, which costs nothing more than the start itself.

use std::io;
use std::process::{Child, Command};

use nix::sched::{CloneFlags, unshare};

/// Starts the program. Its process id here is that of the child; there it has number 1. A caller who may not make pid
/// namespaces starts it in its own.
pub fn in_pid_namespace(mut command: Command) -> io::Result<Child> {
    // What a thread unshares holds for the children of this thread.
    let thread = std::thread::Builder::new().name("spawn".into()).spawn(move || {
        match unshare(CloneFlags::CLONE_NEWPID) {
            Ok(()) | Err(nix::Error::EPERM) => command.spawn(),
            Err(error) => Err(error.into()),
        }
    })?;
    thread
        .join()
        .map_err(|_| io::Error::other("the thread that starts a program died"))?
}
