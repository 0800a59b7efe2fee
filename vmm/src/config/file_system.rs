//! Shared file systems.

use std::path::PathBuf;

use devices::virtio::vhost::TAG_LEN;
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;

/// A folder of the host that the guest mounts, served by a vhost-user back end such as virtiofsd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSystemConfig {
    /// Name of the device within the VM, and the name by which the guest mounts it (`mount -t virtiofs TAG FOLDER`).
    pub tag: String,
    /// Socket of the back end, or `fd:N` for one that is connected already.
    pub socket: PathBuf,
}

impl FileSystemConfig {
    /// Checks the file system, which the document has at `field`, beside what `names` says is taken.
    pub fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        names.take_id(&format!("{field}.tag"), &self.tag)?;
        if self.tag.len() > TAG_LEN {
            let problem = format!("use at most {TAG_LEN} bytes (virtio 1.3 §5.11.4)");
            return Err(refuse(format!("{field}.tag"), format!("{:?}", self.tag), problem));
        }
        names.take_path(&format!("{field}.socket"), &self.socket)
    }
}
