//! What the process gives up.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::check_path;
use super::yes;

/// Open files: enough for all devices with their queues, and the socket device's connections.
const NOFILE: u64 = 8192;
const NOFILE_MIN: u64 = 64;

/// What the process gives up once everything is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// User to become; without it the user stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group to become; without it, the same number as `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Install the system call filters.
    #[serde(default = "yes")]
    pub seccomp: bool,
    /// Leave the host's users, mounts, network, IPC, names and control groups behind.
    #[serde(default = "yes")]
    pub namespaces: bool,
    /// Have the kernel refuse all files but those of the run directory, by Landlock.
    #[serde(default = "yes")]
    pub landlock: bool,
    /// Do not start if something that is switched on cannot be had on this host.
    #[serde(default)]
    pub strict: bool,
    /// Folders of control groups to join: one where they are version 2, one for each hierarchy where they are version 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<PathBuf>,
    /// Resource limits.
    #[serde(default)]
    pub rlimits: Rlimits,
}

/// Resource limits (setrlimit(2)); none is raised above what was inherited. There are never core dumps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rlimits {
    /// Open files.
    pub nofile: u64,
    /// Size of files in bytes, disks included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsize: Option<u64>,
    /// Locked memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memlock: Option<u64>,
}

impl Default for Rlimits {
    fn default() -> Self {
        Self {
            nofile: NOFILE,
            fsize: None,
            memlock: None,
        }
    }
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            uid: None,
            gid: None,
            seccomp: true,
            namespaces: true,
            landlock: true,
            strict: false,
            cgroups: Vec::new(),
            rlimits: Rlimits::default(),
        }
    }
}

impl SandboxConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.gid {
            Some(gid) if self.uid.is_none() => Err(refuse("sandbox.gid", gid, "set sandbox.uid with it")),
            _ => Ok(()),
        }?;
        let nofile = self.rlimits.nofile;
        if nofile < NOFILE_MIN {
            let problem = format!("a VM needs some for each device and client; use {NOFILE_MIN} or more");
            return Err(refuse("sandbox.rlimits.nofile", nofile, problem));
        }
        for (index, path) in self.cgroups.iter().enumerate() {
            check_path(&format!("sandbox.cgroups[{index}]"), path)?;
        }
        Ok(())
    }
}
