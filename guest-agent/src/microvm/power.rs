//! The end of the machine.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::say;
use crate::protocol::ShutdownAction;

/// Time for processes to end by themselves.
const GRACE: Duration = Duration::from_secs(8);

/// Time for killed ones to be gone; only a process stuck in the kernel takes it.
const KILLED: Duration = Duration::from_secs(2);

/// Ends all processes, brings the disks to rest and ends the machine. For process 1 without an init system.
pub(super) fn shut_down(action: ShutdownAction) -> ! {
    let all = Pid::from_raw(-1); // all but the caller, kill(2)
    let _ = kill(all, Signal::SIGTERM);
    let _ = kill(all, Signal::SIGCONT); // stopped ones would not notice
    if !all_ended(GRACE) {
        let _ = kill(all, Signal::SIGKILL);
        all_ended(KILLED);
    }
    nix::unistd::sync();
    unmount_all();
    end(action)
}

/// Ends the machine as it is.
pub(super) fn end(action: ShutdownAction) -> ! {
    nix::unistd::sync();
    let mode = match action {
        ShutdownAction::Poweroff => RebootMode::RB_POWER_OFF,
        ShutdownAction::Reboot => RebootMode::RB_AUTOBOOT,
        ShutdownAction::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    let Err(error) = reboot(mode);
    say(format_args!("cannot end the machine: {error}"));
    // The kernel panics when its first process ends, which ends the machine too.
    std::process::exit(1)
}

/// Reaps until there is nobody left: children's children become children of the first process.
fn all_ended(within: Duration) -> bool {
    let deadline = Instant::now() + within;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return true,
            Ok(status) if status.pid().is_some() => {}
            _ if Instant::now() > deadline => return false,
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The last mounted goes first; what is still in use, such as the root, becomes read-only.
fn unmount_all() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let mut fields = line.split(' ').skip(1);
        let (Some(target), Some(kind)) = (fields.next(), fields.next()) else {
            continue;
        };
        if matches!(
            kind,
            "proc" | "sysfs" | "devtmpfs" | "devpts" | "tmpfs" | "rootfs" | "cgroup2"
        ) {
            continue; // nothing of them stays
        }
        if umount2(target, MntFlags::empty()).is_err() {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let _ = mount(None::<&str>, target, None::<&str>, flags, None::<&str>);
        }
    }
}
