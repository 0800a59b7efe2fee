//! What a container is made from: the document `spec.json` in its run directory, and the rules it must satisfy.
//!
//! The daemon writes it, the monitor reads it. Nothing in it is trusted to be sensible: [`ContainerSpec::validate`] is called
//! before the first system call.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Longest instance name: a host name label, RFC 1123 §2.1; with a project prefix it may be longer.
const MAX_NAME: usize = 128;
/// `HOST_NAME_MAX` of Linux.
const MAX_HOSTNAME: usize = 64;
/// A private range must at least hold the ids that Debian policy §9.2.2 knows, `nobody` (65534) included.
const MIN_RANGE: u32 = 65_536;

/// A whole container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    /// The instance's name on disk; part of its cgroup's name.
    pub name: String,
    /// Host name inside.
    pub hostname: String,
    /// Root file system on the host, with the ids of the image (0..65535).
    pub rootfs: PathBuf,
    /// Where console output is appended.
    pub console_log: PathBuf,
    /// First process and its arguments, for example `["/sbin/init"]`.
    pub init: Vec<String>,
    /// Environment of the first process, added to a minimal default (PATH, TERM, HOME, USER, container).
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Working directory of the first process; `/` by default.
    #[serde(default)]
    pub cwd: Option<String>,
    /// User id of the first process inside.
    #[serde(default)]
    pub user: u32,
    /// Group id of the first process inside.
    #[serde(default)]
    pub group: u32,
    /// The private id range; `None` makes a privileged container without user namespace.
    #[serde(default)]
    pub idmap: Option<IdMap>,
    /// Additional mounts, in order.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Device nodes of the host that the container may use, beside the harmless ones every container has.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// Resource limits.
    #[serde(default)]
    pub limits: Limits,
    /// Process limits of the first process.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Kernel parameters set before the first process runs, for example `net.ipv4.ip_forward`.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// The container may run containers: a second, unmasked proc and sysfs, key rings and bpf are allowed.
    #[serde(default)]
    pub nesting: bool,
    /// Apply the default system call filter.
    #[serde(default = "yes")]
    pub seccomp: bool,
    /// Set `no_new_privs`: set-user-id programs no longer work. Only for plain commands, not for init systems.
    #[serde(default)]
    pub no_new_privs: bool,
    /// Capabilities dropped in addition to the default ones, for example `CAP_NET_RAW`.
    #[serde(default)]
    pub drop_capabilities: Vec<String>,
    /// Names of the network interfaces inside; for information, the daemon moves them in.
    #[serde(default)]
    pub nics: Vec<String>,
    /// Signal that asks init for a clean shutdown; found out from the image when absent.
    #[serde(default)]
    pub stop_signal: Option<i32>,
    /// How long the monitor waits after a SIGTERM of its own before it kills the container.
    #[serde(default = "default_stop_timeout")]
    pub stop_timeout_seconds: u32,
    /// Own clocks: the container's uptime starts at zero.
    #[serde(default = "yes")]
    pub time_namespace: bool,
    /// What is mounted at `/sys/fs/cgroup` inside.
    #[serde(default)]
    pub cgroup_layout: CgroupLayout,
}

fn yes() -> bool {
    true
}

fn default_stop_timeout() -> u32 {
    30
}

/// What a container sees at `/sys/fs/cgroup`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupLayout {
    /// The unified hierarchy where the host has one mounted, else the legacy ones.
    #[default]
    Auto,
    /// Only the unified hierarchy (cgroup v2).
    Unified,
    /// A tmpfs with the host's legacy hierarchies (cgroup v1), for init systems that know nothing else.
    Legacy,
}

/// A contiguous private id range: id N inside is `host_base + N` on the host, for users and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdMap {
    /// Host id of the container's root.
    pub host_base: u32,
    /// How many ids the container has.
    pub range: u32,
}

/// An additional mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Path on the host for a bind mount, anything for other file systems.
    pub source: String,
    /// Absolute path inside; made if it is missing. Symbolic links in it are resolved inside the container's root.
    pub target: String,
    /// `bind` (default) or `tmpfs`.
    #[serde(default)]
    pub fstype: Option<String>,
    /// File system options (`size=16M`) for tmpfs; `nosuid`, `nodev`, `noexec` and `rbind` for any.
    #[serde(default)]
    pub options: Vec<String>,
    /// Mount read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Shift ids: id N on the host's file system is id N inside, as for the root.
    #[serde(default)]
    pub shift: bool,
    /// A missing source is not an error.
    #[serde(default)]
    pub optional: bool,
}

/// A device node passed through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The node on the host, for example `/dev/fuse`.
    pub source: PathBuf,
    /// Where it appears inside; below `/dev`.
    pub target: String,
    /// Continue without it when the host does not have it.
    #[serde(default)]
    pub optional: bool,
}

/// Resource limits; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Soft limit: above it memory is reclaimed first from this container.
    pub memory_soft_bytes: Option<u64>,
    /// Swap, in bytes, on top of the memory.
    pub swap_bytes: Option<u64>,
    /// Processor time per period, in microseconds.
    pub cpu_quota_us: Option<u64>,
    /// The period; 100,000 when absent.
    pub cpu_period_us: Option<u64>,
    /// Share of the processors under contention, 1 to 10,000 as in cgroup v2; 100 is usual.
    pub cpu_weight: Option<u64>,
    /// Processors it may use, as `0-1,3`.
    pub cpu_set: Option<String>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
}

/// A process limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    /// Name in lower case without prefix, for example `nofile`.
    pub kind: String,
    /// Soft limit; `u64::MAX` is unlimited.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl ContainerSpec {
    /// A container with everything at its default.
    pub fn new(
        name: &str,
        rootfs: impl Into<PathBuf>,
        console_log: impl Into<PathBuf>,
        init: &[&str],
    ) -> Self {
        Self {
            name: name.to_owned(),
            hostname: name.to_owned(),
            rootfs: rootfs.into(),
            console_log: console_log.into(),
            init: init.iter().map(|&word| word.to_owned()).collect(),
            environment: BTreeMap::new(),
            cwd: None,
            user: 0,
            group: 0,
            idmap: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            limits: Limits::default(),
            rlimits: Vec::new(),
            sysctls: BTreeMap::new(),
            nesting: false,
            seccomp: true,
            no_new_privs: false,
            drop_capabilities: Vec::new(),
            nics: Vec::new(),
            stop_signal: None,
            stop_timeout_seconds: default_stop_timeout(),
            time_namespace: true,
            cgroup_layout: CgroupLayout::Auto,
        }
    }

    /// Reads and validates a document.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|e| Error::file("read", path, e))?;
        let spec: Self = serde_json::from_slice(&text).map_err(|source| Error::Document {
            path: path.to_path_buf(),
            source,
        })?;
        spec.validate()?;
        Ok(spec)
    }

    /// Refuses what cannot be honoured, naming the field.
    pub fn validate(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.hostname.is_empty() || self.hostname.len() > MAX_HOSTNAME || has_nul(&self.hostname) {
            return Err(Error::spec(
                "hostname",
                format!("{:?} must have 1 to 64 bytes", self.hostname),
            ));
        }
        check_absolute("rootfs", &self.rootfs)?;
        check_absolute("console_log", &self.console_log)?;
        if self.init.first().is_none_or(String::is_empty) || self.init.iter().any(|word| has_nul(word)) {
            return Err(Error::spec("init", "must name a program, without zero bytes"));
        }
        for (key, value) in &self.environment {
            if key.is_empty() || key.contains('=') || has_nul(key) || has_nul(value) {
                return Err(Error::spec("environment", format!("{key:?} is not a variable")));
            }
        }
        if let Some(cwd) = &self.cwd {
            check_absolute("cwd", Path::new(cwd))?;
        }
        if let Some(map) = &self.idmap {
            map.validate()?;
            if self.user >= map.range || self.group >= map.range {
                return Err(Error::spec(
                    "user",
                    format!("{}:{} is outside the id range", self.user, self.group),
                ));
            }
        }
        self.mounts.iter().try_for_each(Mount::validate)?;
        self.devices.iter().try_for_each(Device::validate)?;
        self.limits.validate()?;
        self.rlimits.iter().try_for_each(Rlimit::validate)?;
        for key in self.sysctls.keys() {
            sysctl_path(key)?;
        }
        if let Some(signal) = self.stop_signal
            && !(1..=64).contains(&signal)
        {
            return Err(Error::spec("stop_signal", format!("{signal} is not a signal")));
        }
        for name in &self.drop_capabilities {
            if crate::caps::by_name(name).is_none() {
                return Err(Error::spec(
                    "drop_capabilities",
                    format!("{name:?} is not a capability"),
                ));
            }
        }
        Ok(())
    }
}

impl IdMap {
    fn validate(self) -> Result<()> {
        if self.range < MIN_RANGE {
            return Err(Error::spec(
                "idmap.range",
                format!("{} is less than {MIN_RANGE}", self.range),
            ));
        }
        // u32::MAX is the invalid id of Linux, and a range that holds host ids below 65536 is not private.
        if self.host_base < MIN_RANGE || self.host_base.checked_add(self.range).is_none() {
            return Err(Error::spec(
                "idmap.host_base",
                format!(
                    "{} + {} is not a private range of ids",
                    self.host_base, self.range
                ),
            ));
        }
        Ok(())
    }
}

impl Mount {
    /// Whether the source is a path of the host.
    pub fn is_bind(&self) -> bool {
        self.fstype
            .as_deref()
            .is_none_or(|kind| kind == "bind" || kind == "none")
    }

    fn validate(&self) -> Result<()> {
        check_absolute("mounts.target", Path::new(&self.target))?;
        if Path::new(&self.target).components().count() < 2 {
            return Err(Error::spec("mounts.target", "the root itself cannot be replaced"));
        }
        match self.fstype.as_deref() {
            None | Some("bind" | "none") => check_absolute("mounts.source", Path::new(&self.source)),
            Some("tmpfs") => Ok(()),
            Some(other) => Err(Error::spec(
                "mounts.fstype",
                format!("{other:?} is neither bind nor tmpfs"),
            )),
        }?;
        if self.options.iter().any(|option| has_nul(option)) {
            return Err(Error::spec("mounts.options", "zero byte"));
        }
        Ok(())
    }
}

impl Device {
    fn validate(&self) -> Result<()> {
        check_absolute("devices.source", &self.source)?;
        check_absolute("devices.target", Path::new(&self.target))?;
        if !Path::new(&self.target).starts_with("/dev") || Path::new(&self.target).components().count() < 3 {
            return Err(Error::spec(
                "devices.target",
                format!("{:?} is not below /dev", self.target),
            ));
        }
        Ok(())
    }
}

impl Limits {
    /// Refuses limits that no kernel takes.
    pub fn validate(&self) -> Result<()> {
        if self.memory_bytes.is_some_and(|bytes| bytes < 1 << 20) {
            return Err(Error::spec(
                "limits.memory_bytes",
                "less than 1 MiB cannot hold a process",
            ));
        }
        if self.cpu_quota_us.is_some_and(|quota| quota < 1_000) {
            return Err(Error::spec(
                "limits.cpu_quota_us",
                "the kernel takes no less than 1000",
            ));
        }
        if self
            .cpu_period_us
            .is_some_and(|period| !(1_000..=1_000_000).contains(&period))
        {
            return Err(Error::spec("limits.cpu_period_us", "must be 1000 to 1000000"));
        }
        if self
            .cpu_weight
            .is_some_and(|weight| !(1..=10_000).contains(&weight))
        {
            return Err(Error::spec("limits.cpu_weight", "must be 1 to 10000"));
        }
        if self.pids_max == Some(0) {
            return Err(Error::spec("limits.pids_max", "0 leaves no room for init"));
        }
        if let Some(set) = &self.cpu_set
            && (set.is_empty() || !set.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'-'))
        {
            return Err(Error::spec(
                "limits.cpu_set",
                format!("{set:?} is not a list such as 0-1,3"),
            ));
        }
        Ok(())
    }
}

impl Rlimit {
    fn validate(&self) -> Result<()> {
        if crate::process::rlimit_by_name(&self.kind).is_none() {
            return Err(Error::spec(
                "rlimits.kind",
                format!("{:?} is not a limit", self.kind),
            ));
        }
        if self.soft > self.hard {
            return Err(Error::spec(
                "rlimits.soft",
                format!("{} is above the hard limit", self.soft),
            ));
        }
        Ok(())
    }
}

/// The file of a kernel parameter, relative to `/proc/sys`. Dots and slashes both separate, as in sysctl(8): the first one
/// met is the separator, the other is then part of a name (`net/ipv4/conf/eth0.1/forwarding`).
pub fn sysctl_path(key: &str) -> Result<String> {
    let path = match key.find(['.', '/']) {
        Some(at) if key.as_bytes()[at] == b'.' => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    };
    let fine = path.split('/').all(|part| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
    });
    if fine {
        Ok(path)
    } else {
        Err(Error::spec(
            "sysctls",
            format!("{key:?} is not a kernel parameter"),
        ))
    }
}

/// The name becomes a directory of the cgroup file system, so it must be one plain component.
fn check_name(name: &str) -> Result<()> {
    let fine = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with(['.', '-'])
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fine {
        Ok(())
    } else {
        Err(Error::spec("name", format!("{name:?} is not an instance name")))
    }
}

fn check_absolute(field: &str, path: &Path) -> Result<()> {
    let text = path.as_os_str().as_encoded_bytes();
    if !path.is_absolute() || text.contains(&0) || path.components().any(|part| part == Component::ParentDir)
    {
        return Err(Error::spec(
            field,
            format!("{} must be an absolute path without ..", path.display()),
        ));
    }
    Ok(())
}

fn has_nul(text: &str) -> bool {
    text.bytes().any(|byte| byte == 0)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
