//! Devices that may come and go while the VM runs, and what that makes of its configuration.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ConfigError, DiskConfig, MIN_MEMORY_BYTES, NetConfig, VmConfig, VsockConfig};

/// Id of the socket device, of which there is one.
pub const VSOCK_ID: &str = "vsock";

/// A device to add: the same documents as in the configuration, with the name of their kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NewDevice {
    /// A disk.
    Disk(DiskConfig),
    /// A network interface.
    Net(NetConfig),
    /// The socket device.
    Vsock(VsockConfig),
}

impl NewDevice {
    /// Name of the device within the VM.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Disk(disk) => &disk.id,
            Self::Net(net) => &net.id,
            Self::Vsock(_) => VSOCK_ID,
        }
    }
}

impl VmConfig {
    /// All devices that may be taken away again, in the order in which the guest shall find them.
    #[must_use]
    pub fn removable_devices(&self) -> Vec<NewDevice> {
        let disks = self.disks.iter().cloned().map(NewDevice::Disk);
        let nets = self.nets.iter().cloned().map(NewDevice::Net);
        let vsock = self.vsock.iter().cloned().map(NewDevice::Vsock);
        disks.chain(nets).chain(vsock).collect()
    }

    /// A device alone, as if it were the only one of a VM: for back ends that serve it to somebody else. Relative paths are
    /// taken from `folder`.
    pub fn of_device(folder: &Path, device: &NewDevice) -> Result<Self, ConfigError> {
        let document = json!({
            "name": device.id(), "memory_bytes": MIN_MEMORY_BYTES, "kernel": {"path": "none"}, "run_dir": folder,
            "rng": false,
        });
        Self::from_json(document.to_string().as_bytes())?.with_device(device)
    }

    /// The configuration with one more device, if it fits in.
    pub fn with_device(&self, device: &NewDevice) -> Result<Self, ConfigError> {
        let mut config = self.clone();
        match device.clone() {
            NewDevice::Disk(disk) => config.disks.push(disk),
            NewDevice::Net(net) => config.nets.push(net),
            NewDevice::Vsock(vsock) => {
                if let Some(other) = config.vsock.replace(vsock) {
                    let problem = "there is a socket device already, and a VM has one at most";
                    return Err(super::error::refuse("vsock.cid", other.cid, problem));
                }
            }
        }
        config.check()?;
        Ok(config)
    }

    /// Forgets a device.
    pub fn remove_device(&mut self, id: &str) {
        self.disks.retain(|disk| disk.id != id);
        self.nets.retain(|net| net.id != id);
        if id == VSOCK_ID {
            self.vsock = None;
        }
    }
}
