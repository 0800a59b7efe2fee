//! Control groups of one container, in whatever hierarchies the host has.
//!
//! Each hierarchy of interest gets a directory `virga/<name>-<id>`, which holds the limits and belongs to the host's root. Where
//! the container may manage groups of its own, its processes live in the child `payload`, which is given to its root user and
//! is the root of its cgroup namespace: it sees and divides what it has, but cannot reach the limits.
//!
//! Hosts have cgroup v2 only, v1 only, or both; a controller is taken from where the kernel offers it.

mod device_filter;
mod hierarchy;
mod v1;
mod v2;

pub(crate) use device_filter::{DEFAULT_RULES, DeviceKind, DeviceRule};
pub(crate) use hierarchy::{Hierarchy, Version, discover};

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::spec::Limits;
use crate::state::Metrics;
use crate::{Error, Result};

/// Below it are all containers.
pub(crate) const SHARED: &str = "virga";
/// The delegated part.
const PAYLOAD: &str = "payload";
/// Where processes that join go when the container's root group has been divided: cgroup v2 keeps processes out of inner groups.
const JOINED: &str = ".virga";
/// How long the kernel may take to let go of killed processes. A process in an uninterruptible sleep is rare, but a disk may hang.
const DESTROY_PATIENCE: Duration = Duration::from_secs(10);

/// The control groups of one container.
#[derive(Debug)]
pub(crate) struct Cgroup {
    hierarchies: Vec<Hierarchy>,
    /// Relative to each mount, for example `virga/c1-1a2b3c4d`.
    name: String,
    delegated: bool,
}

impl Cgroup {
    /// The groups of a container that may or may not exist.
    pub(crate) fn named(name: &str, delegated: bool) -> Result<Self> {
        Ok(Self {
            hierarchies: discover()?,
            name: name.to_owned(),
            delegated,
        })
    }

    /// Makes the groups, with limits and device rules, and gives the inner one to `owner` (user and group id on the host).
    pub(crate) fn create(
        name: &str,
        limits: &Limits,
        rules: Option<&[DeviceRule]>,
        owner: Option<(u32, u32)>,
    ) -> Result<Self> {
        let cgroup = Self::named(name, owner.is_some())?;
        let made = cgroup
            .make(rules, owner)
            .and_then(|()| cgroup.apply(limits, true));
        if let Err(error) = made {
            drop(cgroup.destroy());
            return Err(error);
        }
        Ok(cgroup)
    }

    fn make(&self, rules: Option<&[DeviceRule]>, owner: Option<(u32, u32)>) -> Result<()> {
        for hierarchy in &self.hierarchies {
            make_path(hierarchy, Path::new(&self.name))?;
            let outer = self.outer(hierarchy);
            if let Some(rules) = rules {
                match hierarchy.version {
                    Version::V1 if hierarchy.has("devices") => v1::set_devices(&outer, rules)?,
                    // The v1 controller, where the host has one, is enough.
                    Version::V2 if !self.hierarchies.iter().any(|h| h.has("devices")) => {
                        device_filter::attach(&outer, rules)?;
                    }
                    _ => {}
                }
            }
            if self.delegated {
                make_path(hierarchy, &Path::new(&self.name).join(PAYLOAD))?;
                if let Some((user, group)) = owner {
                    delegate(&self.inner(hierarchy), user, group)?;
                }
            }
        }
        Ok(())
    }

    fn outer(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(&self.name)
    }

    fn inner(&self, hierarchy: &Hierarchy) -> PathBuf {
        if self.delegated {
            self.outer(hierarchy).join(PAYLOAD)
        } else {
            self.outer(hierarchy)
        }
    }

    fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    /// The inner group of the unified hierarchy, for clone3(2) to start a process in it.
    pub(crate) fn unified_fd(&self) -> Option<OwnedFd> {
        let path = self.inner(self.unified()?);
        fs::File::open(path).ok().map(OwnedFd::from)
    }

    /// Moves a process in. `unified` is false when clone3 has put it into the unified hierarchy already.
    pub(crate) fn add(&self, pid: i32, unified: bool) -> Result<()> {
        for hierarchy in &self.hierarchies {
            if hierarchy.version == Version::V2 && !unified {
                continue;
            }
            let group = self.inner(hierarchy);
            match write(&group.join("cgroup.procs"), &pid.to_string()) {
                Err(Error::File { source, .. }) if source.raw_os_error() == Some(libc::EBUSY) => {
                    let leaf = group.join(JOINED);
                    make_dir(&leaf)?;
                    write(&leaf.join("cgroup.procs"), &pid.to_string())?;
                }
                answer => answer?,
            }
        }
        Ok(())
    }

    /// Sets the limits. A fresh group has none, so that absent ones need not be lifted.
    pub(crate) fn apply(&self, limits: &Limits, fresh: bool) -> Result<()> {
        for (controller, wanted) in [
            (
                "memory",
                limits.memory_bytes.is_some()
                    || limits.memory_soft_bytes.is_some()
                    || limits.swap_bytes.is_some(),
            ),
            (
                "cpu",
                limits.cpu_quota_us.is_some() || limits.cpu_weight.is_some(),
            ),
            ("cpuset", limits.cpu_set.is_some()),
            ("pids", limits.pids_max.is_some()),
        ] {
            if !wanted && fresh {
                continue;
            }
            let Some(hierarchy) = self.hierarchies.iter().find(|h| h.has(controller)) else {
                if wanted {
                    return Err(Error::spec(
                        "limits",
                        format!("this host's kernel offers no {controller} controller"),
                    ));
                }
                continue;
            };
            let group = self.outer(hierarchy);
            match hierarchy.version {
                Version::V1 => v1::apply(&group, controller, limits)?,
                Version::V2 => v2::apply(&group, controller, limits)?,
            }
        }
        Ok(())
    }

    /// What the container uses.
    pub(crate) fn metrics(&self) -> Metrics {
        let mut metrics = Metrics::default();
        for hierarchy in &self.hierarchies {
            let group = self.outer(hierarchy);
            match hierarchy.version {
                Version::V1 => v1::measure(&group, hierarchy, &mut metrics),
                Version::V2 => v2::measure(&group, hierarchy, &mut metrics),
            }
        }
        metrics
    }

    /// Stops or continues all processes.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<()> {
        if let Some(hierarchy) = self.unified()
            && self.outer(hierarchy).join("cgroup.freeze").exists()
        {
            return v2::freeze(&self.outer(hierarchy), frozen);
        }
        match self.hierarchies.iter().find(|h| h.has("freezer")) {
            Some(hierarchy) => v1::freeze(&self.outer(hierarchy), frozen),
            None => Err(Error::spec("freeze", "this host's kernel has no freezer")),
        }
    }

    /// Whether the processes are frozen: one that joined would be, too.
    pub(crate) fn is_frozen(&self) -> bool {
        self.hierarchies.iter().any(|hierarchy| {
            let group = self.outer(hierarchy);
            match hierarchy.version {
                Version::V2 => keyed_number(&group.join("cgroup.events"), "frozen") == Some(1),
                Version::V1 => {
                    hierarchy.has("freezer")
                        && fs::read_to_string(group.join("freezer.state")).is_ok_and(|s| s.trim() != "THAWED")
                }
            }
        })
    }

    /// Kills every process in the groups, whatever it has made of itself.
    pub(crate) fn kill(&self) {
        if let Some(hierarchy) = self.unified()
            && fs::write(self.outer(hierarchy).join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        // Without cgroup.kill (before Linux 5.14, or v1 only): frozen processes cannot fork away from the signal.
        let v1_freezer = self
            .hierarchies
            .iter()
            .find(|h| h.has("freezer"))
            .map(|h| self.outer(h));
        if let Some(group) = &v1_freezer {
            drop(v1::freeze(group, true));
        }
        for hierarchy in &self.hierarchies {
            for pid in processes(&self.outer(hierarchy)) {
                // SAFETY: plain integers; the pid was in our group a moment ago.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
        if let Some(group) = &v1_freezer {
            drop(v1::freeze(group, false));
        }
    }

    /// Kills what is left and removes the groups. Fine when they do not exist.
    pub(crate) fn destroy(&self) -> Result<()> {
        let deadline = Instant::now() + DESTROY_PATIENCE;
        let mut pause = Duration::from_micros(200);
        for hierarchy in &self.hierarchies {
            let group = self.outer(hierarchy);
            loop {
                match remove_tree(&group) {
                    Ok(()) => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        self.kill();
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(Duration::from_millis(50));
                    }
                    Err(source) => return Err(Error::file("remove", group, source)),
                }
            }
        }
        Ok(())
    }
}

/// Removes the directory that all containers share, where it is empty.
pub(crate) fn remove_shared() {
    for hierarchy in discover().unwrap_or_default() {
        // Not empty as long as there is any container; then it stays.
        drop(fs::remove_dir(hierarchy.mount.join(SHARED)));
    }
}

/// Makes a path of groups below a mount, and what each level needs before processes can live in it.
fn make_path(hierarchy: &Hierarchy, name: &Path) -> Result<()> {
    let mut group = hierarchy.mount.clone();
    for part in name.components() {
        let parent = group.clone();
        group.push(part);
        if hierarchy.version == Version::V2 {
            v2::offer_controllers(&parent);
        }
        match make_dir(&group) {
            // The shared parent was empty, and another container's clean-up has just removed it.
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                make_dir(&parent)?;
                prepare(&parent, hierarchy)?;
                make_dir(&group)?;
            }
            answer => answer?,
        }
        prepare(&group, hierarchy)?;
    }
    Ok(())
}

fn prepare(group: &Path, hierarchy: &Hierarchy) -> Result<()> {
    match (hierarchy.version, group.parent()) {
        (Version::V1, Some(parent)) => v1::prepare(group, parent, hierarchy),
        _ => Ok(()),
    }
}

/// Makes a directory that may exist.
fn make_dir(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::file("make", path, source))
        }
        _ => Ok(()),
    }
}

/// Gives a group to the container's root: it may make groups below and move its processes between them
/// (cgroup-v2.rst, "Delegation").
fn delegate(group: &Path, user: u32, owner_group: u32) -> Result<()> {
    let chown = |path: &Path| std::os::unix::fs::chown(path, Some(user), Some(owner_group));
    chown(group).map_err(|e| Error::file("give away", group, e))?;
    for file in [
        "cgroup.procs",
        "tasks",
        "cgroup.threads",
        "cgroup.subtree_control",
        "memory.oom.group",
        "memory.reclaim",
    ] {
        match chown(&group.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("give away", group.join(file), error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// All processes in a group and below it.
fn processes(group: &Path) -> Vec<i32> {
    let mut pids: Vec<i32> = fs::read_to_string(group.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|&pid| pid > 0)
        .collect();
    for child in children(group) {
        pids.extend(processes(&child));
    }
    pids
}

fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a group and those below it; a group that does not exist is gone.
fn remove_tree(group: &Path) -> io::Result<()> {
    // The kernel refuses to remove a group with children, and that is cheaper than listing first.
    match fs::remove_dir(group) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        answer => return answer,
    }
    for child in children(group) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(group) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        answer => answer,
    }
}

/// Writes a control file.
fn write(path: &Path, value: &str) -> Result<()> {
    fs::write(path, value).map_err(|source| Error::file("write", path, source))
}

/// A control file that holds one number; `None` for `max` and what is not there.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after `key` in a control file of `key number` lines.
fn keyed_number(path: &Path, key: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key {
            value.trim().parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
