//! Everything that must be known to make a container, whoever wants it.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::caps::CapabilitySets;
use crate::cgroup::Hierarchy;
use crate::seccomp::Program;

/// A container to be made.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// `CLONE_NEW*` of the namespaces it does not share.
    pub(crate) namespaces: i32,
    /// Existing namespaces to enter, with their `CLONE_NEW*`.
    pub(crate) joined: Vec<(i32, PathBuf)>,
    pub(crate) uid_map: Vec<IdExtent>,
    pub(crate) gid_map: Vec<IdExtent>,
    pub(crate) rootfs: PathBuf,
    pub(crate) root_read_only: bool,
    /// The root's files have the ids of the inside.
    pub(crate) shift_root: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<DevicePlan>,
    /// Paths that show nothing.
    pub(crate) masked: Vec<String>,
    pub(crate) read_only: Vec<String>,
    /// Below read-only ones, yet writable.
    pub(crate) writable: Vec<String>,
    /// File below `/proc/sys` and value.
    pub(crate) sysctls: Vec<(String, String)>,
    /// The clocks of a new time namespace start at zero.
    pub(crate) clocks_at_zero: bool,
    /// Width and height of the console; `None` for no terminal: standard files are inherited.
    pub(crate) terminal: Option<(u16, u16)>,
    /// Kill it when the process that made it dies.
    pub(crate) dies_with_parent: bool,
    /// Where `start` comes from, if not from the process that made it.
    pub(crate) start_listener: Option<UnixListener>,
    pub(crate) process: ProcessPlan,
}

/// The first process.
#[derive(Debug, Default)]
pub(crate) struct ProcessPlan {
    pub(crate) arguments: Vec<String>,
    /// `NAME=value`.
    pub(crate) environment: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Option<CapabilitySets>,
    pub(crate) rlimits: Vec<RlimitPlan>,
    pub(crate) no_new_privs: bool,
    pub(crate) seccomp: Option<(Program, u64)>,
    pub(crate) umask: Option<u32>,
    pub(crate) oom_score_adj: Option<i32>,
}

/// A limit by number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RlimitPlan {
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Ids `inside..inside+size` are `outside..` on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdExtent {
    pub(crate) inside: u32,
    pub(crate) outside: u32,
    pub(crate) size: u32,
}

impl IdExtent {
    /// The text that `/proc/PID/uid_map` takes, user_namespaces(7).
    pub(super) fn table(extents: &[Self]) -> String {
        extents
            .iter()
            .map(|e| format!("{} {} {}\n", e.inside, e.outside, e.size))
            .collect()
    }

    /// What an id inside is outside.
    pub(crate) fn outside(extents: &[Self], id: u32) -> Option<u32> {
        extents
            .iter()
            .find(|e| id >= e.inside && id - e.inside < e.size)
            .and_then(|e| e.outside.checked_add(id - e.inside))
    }
}

/// One mount.
#[derive(Debug)]
pub(crate) struct MountPlan {
    pub(crate) target: String,
    pub(crate) source: MountSource,
    /// `MOUNT_ATTR_*`.
    pub(crate) attributes: u64,
    /// Skip it where the host does not have the source.
    pub(crate) optional: bool,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) enum MountSource {
    /// A new file system with its options.
    New { kind: String, options: Vec<String> },
    /// A tree of the host.
    Bind {
        path: PathBuf,
        recursive: bool,
        shift: bool,
    },
    /// The unified cgroup hierarchy.
    Cgroup2,
    /// A tmpfs with one mount for each legacy hierarchy.
    Cgroup1(Vec<Hierarchy>),
}

/// A device node of the host.
#[derive(Debug, Clone)]
pub(crate) struct DevicePlan {
    pub(crate) source: PathBuf,
    pub(crate) target: String,
    pub(crate) optional: bool,
}

impl Plan {
    /// Whether any mount's ids are shifted.
    pub(super) fn shifts(&self) -> bool {
        self.shift_root
            || self
                .mounts
                .iter()
                .any(|m| matches!(m.source, MountSource::Bind { shift: true, .. }))
    }
}
