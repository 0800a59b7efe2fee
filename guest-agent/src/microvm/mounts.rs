//! File systems of the kernel's, before and after the root disk is there.

use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::{BootError, say};

/// Needed from the first moment; they move to the root disk later.
pub(super) const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Mounts what the agent itself needs.
pub(super) fn kernel_file_systems() -> Result<(), BootError> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    attach("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755")?;
    attach("proc", "/proc", plain, "")?;
    attach("sysfs", "/sys", plain, "")?;
    attach(
        "tmpfs",
        "/run",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        "mode=0755",
    )
}

/// Mounts what programs of the image expect. All init systems take them as found.
pub(super) fn of_the_new_root() -> Result<(), BootError> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // Group 5 is "tty" in every distribution; see mount(8), "Mount options for devpts".
    attach("devpts", "/dev/pts", plain, "gid=5,mode=0620,ptmxmode=0666")?;
    attach(
        "tmpfs",
        "/dev/shm",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        "mode=1777",
    )?;
    attach(
        "cgroup2",
        "/sys/fs/cgroup",
        plain | MsFlags::MS_NODEV,
        "nsdelegate",
    )?;
    // devtmpfs has devices only; these names are for shells and scripts.
    let links = [
        ("/proc/self/fd", "/dev/fd"),
        ("/proc/self/fd/0", "/dev/stdin"),
        ("/proc/self/fd/1", "/dev/stdout"),
        ("/proc/self/fd/2", "/dev/stderr"),
    ];
    for (target, link) in links {
        let _ = symlink(target, link);
    }
    Ok(())
}

/// Mounts what an init system would have cared for. Not vital.
pub(super) fn temporary() {
    if let Err(error) = attach(
        "tmpfs",
        "/tmp",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        "mode=1777",
    ) {
        say(error);
    }
}

fn attach(kind: &str, target: &str, flags: MsFlags, options: &str) -> Result<(), BootError> {
    if !Path::new(target).is_dir() {
        std::fs::create_dir_all(target).map_err(BootError::because(format_args!("make {target}")))?;
    }
    match mount(Some(kind), target, Some(kind), flags, Some(options)) {
        // The kernel was faster (CONFIG_DEVTMPFS_MOUNT).
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(error) => Err(BootError::because(format_args!("mount {kind} on {target}"))(
            error,
        )),
    }
}
