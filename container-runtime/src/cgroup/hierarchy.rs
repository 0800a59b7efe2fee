//! Which cgroup hierarchies the host has mounted, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::fs;
use std::path::PathBuf;

use crate::{Error, Result};

/// Controllers that a container has a group in; others (`net_cls`, `perf_event`, …) are left alone.
const OF_INTEREST: &[&str] = &[
    "memory",
    "pids",
    "cpu",
    "cpuacct",
    "cpuset",
    "freezer",
    "devices",
    "name=systemd",
];

/// The two kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// One tree per controller or group of controllers.
    V1,
    /// The unified tree.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Where it is mounted.
    pub(crate) mount: PathBuf,
    /// Its kind.
    pub(crate) version: Version,
    /// What it controls; a named hierarchy lists `name=…`.
    pub(crate) controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether this is where a controller is found.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The hierarchies of interest, the unified one last.
pub(crate) fn discover() -> Result<Vec<Hierarchy>> {
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(|e| Error::file("read", path, e))?;
    let mut found = parse(&text);
    for hierarchy in found.iter_mut().filter(|h| h.version == Version::V2) {
        let file = hierarchy.mount.join("cgroup.controllers");
        let names = fs::read_to_string(&file).map_err(|e| Error::file("read", &file, e))?;
        hierarchy.controllers = names.split_ascii_whitespace().map(str::to_owned).collect();
    }
    if found.is_empty() {
        return Err(Error::system(
            "find a cgroup hierarchy: mount cgroup2 at /sys/fs/cgroup",
            std::io::Error::from_raw_os_error(libc::ENOENT),
        ));
    }
    Ok(found)
}

/// Picks the cgroup mounts out of mountinfo; of several mounts of one hierarchy the first counts.
pub(super) fn parse(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let mut right = right.split(' ');
        let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
        let Some(mount) = left.split(' ').nth(4) else {
            continue;
        };
        let hierarchy = match kind {
            Some("cgroup2") => Hierarchy {
                mount: unescape(mount),
                version: Version::V2,
                controllers: Vec::new(),
            },
            Some("cgroup") => {
                let controllers: Vec<String> = options
                    .split(',')
                    .filter(|name| OF_INTEREST.contains(name))
                    .map(str::to_owned)
                    .collect();
                if controllers.is_empty() {
                    continue;
                }
                Hierarchy {
                    mount: unescape(mount),
                    version: Version::V1,
                    controllers,
                }
            }
            _ => continue,
        };
        let known = found.iter().any(|h| {
            h.version == hierarchy.version
                && (h.version == Version::V2 || h.controllers == hierarchy.controllers)
        });
        if !known {
            found.push(hierarchy);
        }
    }
    found.sort_by_key(|h| h.version == Version::V2);
    found
}

/// mountinfo writes space, tab, newline and backslash as octal.
fn unescape(text: &str) -> PathBuf {
    PathBuf::from(
        text.replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\"),
    )
}
