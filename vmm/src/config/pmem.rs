//! Persistent memory: files in the guest's address space.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;
use super::names::Names;

/// A virtio persistent memory device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PmemConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// The guest cannot write to it, and all VMs share the host's copy in memory.
    #[serde(default)]
    pub read_only: bool,
}

impl PmemConfig {
    /// Checks the device, which the document has at `field`, beside what `names` says is taken.
    pub(super) fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        names.take_id(&format!("{field}.id"), &self.id)?;
        names.take_path(&format!("{field}.path"), &self.path)
    }
}
