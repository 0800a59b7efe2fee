//! Disks.

use std::path::{Path, PathBuf};

use devices::virtio::block::QUEUES_MAX;
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;

/// A virtio block device over a raw file or a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// Raw image or host block device, or `fd:N`; empty if there is `vhost_user`.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: PathBuf,
    /// Instead of a path: the socket of a vhost-user back end that has the disk, or `fd:N` for one that is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost_user: Option<PathBuf>,
    /// Number of queues, 1 to 32.
    #[serde(default = "one_queue")]
    pub queues: u16,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// What the guest reads as the disk's serial number; at most 20 ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn one_queue() -> u16 {
    1
}

impl DiskConfig {
    /// Checks the disk, which the document has at `field`, beside what `names` says is taken.
    pub fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        names.take_id(&format!("{field}.id"), &self.id)?;
        if self.queues == 0 || self.queues > QUEUES_MAX {
            let problem = format!("use 1 to {QUEUES_MAX}");
            return Err(refuse(format!("{field}.queues"), self.queues, problem));
        }
        if let Some(socket) = &self.vhost_user {
            names.take_path(&format!("{field}.vhost_user"), socket)?;
            return self.check_remote(field);
        }
        names.take_path(&format!("{field}.path"), &self.path)?;
        if let Some(serial) = &self.serial
            && (serial.len() > 20 || !serial.chars().all(|c| c.is_ascii_graphic()))
        {
            let problem = "use at most 20 printable ASCII characters (virtio 1.3 §5.2.6)";
            return Err(refuse(format!("{field}.serial"), format!("{serial:?}"), problem));
        }
        Ok(())
    }

    /// A back end has the disk and all that is said of one.
    fn check_remote(&self, field: &str) -> Result<(), ConfigError> {
        let said = [
            ("path", !is_empty(&self.path)),
            ("read_only", self.read_only),
            ("serial", self.serial.is_some()),
        ];
        match said.into_iter().find(|(_, said)| *said) {
            None => Ok(()),
            Some((name, _)) => Err(refuse(
                format!("{field}.{name}"),
                "given",
                "a vhost-user disk is described to its back end; leave it out here",
            )),
        }
    }
}
