//! A device in its place, behind whatever transport.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use devices::virtio::device::DeviceError;
use devices::virtio::transport::mmio::VirtioMmio;
use devices::virtio::transport::pci::VirtioPci;
use devices::virtio::update::{Pending, UpdateError};

use crate::control::state::DeviceInfo;
use crate::lock::lock;

/// How long a vCPU may be at a device's registers before an update gives up: as long as a device may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

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
        let pending = match &self.transport {
            Transport::Pci(transport) => lock_soon(transport).map(|mut held| held.update(update)),
            Transport::Mmio(transport) => lock_soon(transport).map(|mut held| held.update(update)),
        };
        pending.unwrap_or_else(|| Pending::now(Err(UpdateError::NoAnswer)))
    }

    /// The device's counters; `null` while a vCPU is at its registers. That can last, as a reset of a virtio-mmio device waits
    /// for what is in flight, and whoever asks for counters must not wait with it.
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

/// Locks a transport, unless a vCPU stays at its registers.
fn lock_soon<T>(transport: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    let start = Instant::now();
    loop {
        match transport.try_lock() {
            Ok(held) => return Some(held),
            Err(TryLockError::Poisoned(held)) => return Some(held.into_inner()),
            Err(TryLockError::WouldBlock) if start.elapsed() > PATIENCE => return None,
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}
