//! The way in for a debugger.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::names::Names;

/// A socket for gdb's remote protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GdbConfig {
    /// Unix socket that a debugger connects to; a path, or `fd:N` for one that listens.
    pub socket: PathBuf,
    /// The guest's first instruction waits for a debugger.
    #[serde(default)]
    pub wait: bool,
}

impl GdbConfig {
    pub(super) fn check(&self, names: &mut Names) -> Result<(), ConfigError> {
        names.take_path("gdb.socket", &self.socket)
    }
}
