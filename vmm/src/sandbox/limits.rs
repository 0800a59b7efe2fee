//! What the process may use of the host: resource limits and control groups.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::Rlimits;

/// Moves this process to a control group: the folder of one in a mounted hierarchy, v1 or v2.
///
/// To be called before there are threads and guest memory. The kernel may wait for all processors meanwhile, so whoever
/// starts many VMs does better to start them in their groups.
pub fn join_cgroup(folder: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(folder.join("cgroup.procs"))?;
    // The process that writes.
    file.write_all(b"0")
}

/// Lowers the limits. None is raised above what was inherited.
pub(super) fn apply(limits: &Rlimits) -> io::Result<()> {
    let all = [
        (Resource::RLIMIT_CORE, Some(0)),
        (Resource::RLIMIT_NOFILE, Some(limits.nofile)),
        (Resource::RLIMIT_FSIZE, limits.fsize),
        (Resource::RLIMIT_MEMLOCK, limits.memlock),
    ];
    for (resource, limit) in all {
        let Some(limit) = limit else { continue };
        let (_, most) = getrlimit(resource)?;
        let limit = limit.min(most);
        setrlimit(resource, limit, limit)?;
    }
    Ok(())
}
