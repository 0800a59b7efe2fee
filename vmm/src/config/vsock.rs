//! The socket device.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;

/// A virtio socket device with Firecracker's mapping to unix sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The guest's context id, 3 or more.
    pub cid: u32,
    /// Unix socket on which host programs connect; a path, or `fd:N` for one that listens. The guest reaches host programs
    /// at this path with `_PORT` behind it, and none where there is no path.
    pub socket: PathBuf,
}

impl VsockConfig {
    /// Checks the device, which the document has at `field`.
    pub fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        names.take_path(&format!("{field}.socket"), &self.socket)?;
        if self.cid < 3 || self.cid == u32::MAX {
            let problem = "0, 1, 2 and 4294967295 are reserved (virtio 1.3 §5.10.4); use 3 or more";
            return Err(refuse(format!("{field}.cid"), self.cid, problem));
        }
        Ok(())
    }
}
