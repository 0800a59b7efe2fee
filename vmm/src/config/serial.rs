//! The serial console.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::names::{Names, check_path};

/// The 16550 serial console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialConfig {
    /// Where output is appended; at most 1 MiB is kept here and as much in `LOG.old`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Unix socket on which clients attach to the console; a path, or `fd:N` for one that listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Default for SerialConfig {
    fn default() -> Self {
        Self {
            log: Some("console.log".into()),
            socket: Some("console.sock".into()),
        }
    }
}

impl SerialConfig {
    pub(super) fn check(&self, names: &mut Names) -> Result<(), ConfigError> {
        if let Some(path) = &self.log {
            check_path("serial.log", path)?;
        }
        if let Some(path) = &self.socket {
            names.take_path("serial.socket", path)?;
        }
        Ok(())
    }
}
