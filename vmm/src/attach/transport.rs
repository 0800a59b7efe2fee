//! A device in its place, behind whatever transport.

use std::sync::{Arc, Mutex};

use devices::virtio::device::DeviceError;
use devices::virtio::transport::mmio::VirtioMmio;
use devices::virtio::transport::pci::VirtioPci;
use devices::virtio::update::Pending;

use crate::control::state::DeviceInfo;
use crate::machine::lock;

pub(super) enum Transport {
    Pci(Arc<Mutex<VirtioPci>>),
    Mmio(Arc<Mutex<VirtioMmio>>),
}

/// A device in its place.
pub struct Attached {
    /// What `GET /devices` says of it.
    pub info: DeviceInfo,
    pub(super) slot: Option<u8>,
    pub(super) transport: Transport,
}

impl Attached {
    /// Its PCI slot, if it is one that can be taken away.
    #[must_use]
    pub fn slot(&self) -> Option<u8> {
        self.slot
    }

    /// Stops the device's work.
    pub fn pause(&self) -> Result<(), DeviceError> {
        match &self.transport {
            Transport::Pci(transport) => lock(transport).pause(),
            Transport::Mmio(transport) => lock(transport).pause(),
        }
    }

    /// Lets it go on.
    pub fn resume(&self) -> Result<(), DeviceError> {
        match &self.transport {
            Transport::Pci(transport) => lock(transport).resume(),
            Transport::Mmio(transport) => lock(transport).resume(),
        }
    }

    /// Changes something of the device.
    pub fn update(&self, update: serde_json::Value) -> Pending {
        match &self.transport {
            Transport::Pci(transport) => lock(transport).update(update),
            Transport::Mmio(transport) => lock(transport).update(update),
        }
    }

    /// The device's counters; `null` while a vCPU is at its registers. That can last, as a reset waits for what is in
    /// flight, and whoever asks for counters must not wait with it.
    #[must_use]
    pub fn metrics(&self) -> serde_json::Value {
        match &self.transport {
            Transport::Pci(transport) => transport
                .try_lock()
                .map_or_else(|_| Default::default(), |held| held.device().metrics()),
            Transport::Mmio(transport) => transport
                .try_lock()
                .map_or_else(|_| Default::default(), |held| held.device().metrics()),
        }
    }
}
