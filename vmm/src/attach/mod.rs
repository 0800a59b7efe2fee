//! Makes the configured virtio devices and puts each behind its transport, on the PCI bus or as virtio-mmio.
//!
//! This is the one place that knows all kinds of devices: one file opens what one kind stands on, [`make_all`] lists them.

mod balloon;
mod console;
mod disk;
mod memory;
mod mmio;
mod net;
pub mod pmem;
mod slots;
mod transport;
mod vhost_user;
mod vsock;

use std::io;
use std::os::unix::net::UnixStream;

use devices::bus::BusError;
use devices::pci::PciError;
use devices::virtio::device::VirtioDevice;
use devices::virtio::rng::{self, Rng};
use devices::virtio::transport::TransportError;
use devices::virtio::worker::Virtio;
use thiserror::Error;

use crate::config::{NewDevice, VmConfig};
pub use mmio::{MmioPlace, attach_mmio};
pub use slots::Slots;
pub use transport::Attached;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a device could not be had.
#[derive(Debug, Error)]
pub enum AttachError {
    /// What the device stands on could not be opened or used.
    #[error("cannot make the {kind} device {id:?} with {what}: {source}")]
    Device {
        /// Kind of device.
        kind: &'static str,
        /// Its id.
        id: String,
        /// Path, link or socket.
        what: String,
        /// What went wrong.
        source: BoxError,
    },
    /// The transport could not be made.
    #[error("cannot attach the device {id:?}: {source}")]
    Transport {
        /// The device's id.
        id: String,
        /// What went wrong.
        source: TransportError,
    },
    /// The PCI bus has no room.
    #[error("cannot attach the device {id:?}: {source}")]
    Pci {
        /// The device's id.
        id: String,
        /// What went wrong.
        source: PciError,
    },
    /// There are more virtio-mmio devices than interrupts.
    #[error(
        "cannot attach the device {id:?}: virtio-mmio has room for {most} devices; use \"transport\": \"pci\""
    )]
    NoPin {
        /// The device's id.
        id: String,
        /// Number of interrupts.
        most: usize,
    },
    /// An interrupt line could not be had.
    #[error("cannot get an interrupt for the device {id:?}: {source}")]
    Line {
        /// The device's id.
        id: String,
        /// What the system said.
        source: io::Error,
    },
    /// Two devices at one address: a defect of this program.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A device that has no place yet.
pub struct Made {
    id: String,
    kind: &'static str,
    /// Whether it can be taken away while the guest runs.
    removable: bool,
    device: Box<dyn VirtioDevice>,
}

impl Made {
    /// Gives a backend its worker.
    fn new<B: devices::virtio::worker::Backend>(id: &str, kind: &'static str, backend: B) -> Self {
        Self {
            id: id.to_owned(),
            kind,
            removable: false,
            device: Box::new(Virtio::new(backend)),
        }
    }
}

impl Made {
    /// The device, for another transport than this VM's.
    #[must_use]
    pub fn into_device(self) -> Box<dyn VirtioDevice> {
        self.device
    }
}

/// Makes a device that comes while the VM is there already.
pub fn make(config: &VmConfig, new: &NewDevice) -> Result<Made, AttachError> {
    let mut made = match new {
        NewDevice::Disk(disk) => disk::make(config, disk),
        NewDevice::Net(net) => net::make(config, net),
        NewDevice::Vsock(vsock) => vsock::make(config, vsock),
    }?;
    made.removable = true;
    Ok(made)
}

/// Makes all devices of a configuration, in the order in which the guest shall find them. The stream is the host's
/// end of the virtio console.
pub fn make_all(config: &VmConfig) -> Result<(Vec<Made>, Option<UnixStream>), AttachError> {
    let mut made = Vec::new();
    for device in config.removable_devices() {
        made.push(make(config, &device)?);
    }
    for file_system in &config.file_systems {
        made.push(vhost_user::make_file_system(config, file_system)?);
    }
    if config.rng {
        made.push(Made::new("rng", "rng", Rng::new(rng::Config::default())));
    }
    if let Some(hotplug) = &config.memory.hotplug {
        made.push(memory::make(config, hotplug)?);
    }
    if let Some(balloon) = &config.balloon {
        made.push(balloon::make(config, balloon)?);
    }
    let mut hvc = None;
    if config.console {
        let (ours, device) = console::make(config)?;
        hvc = Some(ours);
        made.push(device);
    }
    Ok((made, hvc))
}

fn failed<'a, E: Into<BoxError>>(
    kind: &'static str,
    id: &'a str,
    what: impl ToString + 'a,
) -> impl FnOnce(E) -> AttachError + 'a {
    move |source| AttachError::Device {
        kind,
        id: id.to_owned(),
        what: what.to_string(),
        source: source.into(),
    }
}
