//! The container's file system: finding one's way in a hostile image, and what is mounted over it.

mod dev;
pub mod lookup;
pub(crate) mod mounts;
mod protect;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use lookup::RootDir;

use crate::launch::Plan;
use crate::{Error, Result};

/// The console's terminal: a pair from the container's own devpts, so that its programs find its name.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Attaches everything inside the pivoted root: file systems, binds, devices, the console, and what hides or protects.
pub(crate) fn furnish(
    plan: &Plan,
    root: &RootDir,
    made: Vec<Option<OwnedFd>>,
    binds: &[Option<OwnedFd>],
    devices: &[Option<OwnedFd>],
) -> Result<Option<Terminal>> {
    mounts::attach_all(root, &plan.mounts, made, binds)?;
    dev::populate(root, plan, devices)?;
    let terminal = match plan.terminal {
        Some(size) => Some(dev::console(root, size)?),
        None => None,
    };
    for (path, value) in &plan.sysctls {
        set_sysctl(root, path, value)?;
    }
    protect::read_only(root, &plan.read_only, &plan.writable)?;
    protect::mask(root, &plan.masked)?;
    Ok(terminal)
}

fn set_sysctl(root: &RootDir, path: &str, value: &str) -> Result<()> {
    let full = Path::new("/proc/sys").join(path);
    root.open_at(&full, libc::O_WRONLY)
        .and_then(|fd| std::fs::File::from(fd).write_all(value.as_bytes()))
        .map_err(|source| Error::file("set", full, source))
}
