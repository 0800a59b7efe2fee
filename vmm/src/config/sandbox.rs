//! What the process gives up.

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::yes;

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
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            uid: None,
            gid: None,
            seccomp: true,
        }
    }
}

impl SandboxConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self.gid {
            Some(gid) if self.uid.is_none() => Err(refuse("sandbox.gid", gid, "set sandbox.uid with it")),
            _ => Ok(()),
        }
    }
}
