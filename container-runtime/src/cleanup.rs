//! Removing what a dead monitor has left. Mounts and namespaces end with the last process of the container, so that killing all
//! processes and removing cgroups, sockets and state files is everything there is to do.

use std::fs;
use std::path::Path;

use crate::cgroup::{self, Cgroup};
use crate::spec::ContainerSpec;
use crate::state::{ContainerFile, PidFile};
use crate::sys::process::{pidfd_kill, pidfd_open};
use crate::{Result, process, run_dir};

/// Kills the monitor of a run directory if it still lives, then everything of its container, and removes its cgroups and the files
/// that say it runs. `spec.json` and `exit.json` stay. Does nothing where nothing is left; may be called again after a failure.
pub fn cleanup(dir: &Path) -> Result<()> {
    if let Ok(Some(monitor)) = run_dir::read_document::<PidFile>(dir, run_dir::PID) {
        kill(monitor.pid, monitor.start_time);
    }
    let container = run_dir::read_document::<ContainerFile>(dir, run_dir::CONTAINER)
        .ok()
        .flatten();
    if let Some(container) = &container {
        kill(container.init_pid, container.init_start_time);
    }
    let mut names: Vec<String> = container
        .into_iter()
        .map(|c| c.cgroup)
        .filter(|name| is_ours(name))
        .collect();
    if let Ok(spec) = ContainerSpec::read(&dir.join(run_dir::SPEC)) {
        names.push(run_dir::cgroup_name(&spec.name, dir));
    }
    names.dedup();
    for name in names {
        let cgroup = Cgroup::named(&name, true)?;
        cgroup.kill();
        cgroup.destroy()?;
    }
    cgroup::remove_shared();
    for file in [
        run_dir::CONTROL_SOCKET,
        run_dir::CONSOLE_SOCKET,
        run_dir::CONTAINER,
        run_dir::PID,
    ] {
        run_dir::remove(dir.join(file))?;
    }
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.filter_map(|entry| entry.ok()) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // Left by a write that was interrupted.
            if name.starts_with('.') && name.ends_with(".json.tmp") {
                run_dir::remove(entry.path())?;
            }
        }
    }
    Ok(())
}

/// A group is removed only where we make them, whatever the file says.
fn is_ours(name: &str) -> bool {
    name.strip_prefix("virga/")
        .is_some_and(|rest| !rest.is_empty() && !rest.contains('/') && rest != "..")
}

/// Kills the process that had `pid` at that time, and waits until it is dead (its children get their death signals then).
fn kill(pid: i32, start_time: u64) {
    if pid <= 1 || !process::is_alive(pid, start_time) {
        return;
    }
    let Ok(pidfd) = pidfd_open(pid) else { return };
    // Between the check and the open the pid may have been given to another.
    if process::start_time(pid) != Some(start_time) || pidfd_kill(&pidfd, libc::SIGKILL).is_err() {
        return;
    }
    use std::os::fd::AsFd;
    let mut watched = [nix::poll::PollFd::new(
        pidfd.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    // Whatever comes of it, the cgroup is cleared next.
    let _ = nix::poll::poll(&mut watched, 5_000_u16);
}
