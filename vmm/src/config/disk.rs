//! Disks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;

/// A virtio block device over a raw file or a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// Raw image or host block device, or `fd:N`.
    pub path: PathBuf,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// What the guest reads as the disk's serial number; at most 20 ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

impl DiskConfig {
    /// Checks the disk, which the document has at `field`, beside what `names` says is taken.
    pub fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        names.take_id(&format!("{field}.id"), &self.id)?;
        names.take_path(&format!("{field}.path"), &self.path)?;
        if let Some(serial) = &self.serial
            && (serial.len() > 20 || !serial.chars().all(|c| c.is_ascii_graphic()))
        {
            let problem = "use at most 20 printable ASCII characters (virtio 1.3 §5.2.6)";
            return Err(refuse(format!("{field}.serial"), format!("{serial:?}"), problem));
        }
        Ok(())
    }
}
