//! Puts made devices behind their transports, and keeps them while the VM lives.

use std::sync::{Arc, Mutex};

use devices::bus::Bus;
use devices::pci::PciBus;
use devices::virtio::device::DeviceError;
use devices::virtio::transport::Machine as Environment;
use devices::virtio::transport::mmio::{self, VirtioMmio};
use devices::virtio::transport::pci::VirtioPci;
use devices::virtio::update::Pending;

use super::{AttachError, Made};
use crate::arch::layout;
use crate::control::state::DeviceInfo;
use crate::device_manager::DeviceManager;
use crate::kvm::interrupts::{Interrupts, Messages};
use crate::machine::lock;

enum Transport {
    Pci(Arc<Mutex<VirtioPci>>),
    Mmio(Arc<Mutex<VirtioMmio>>),
}

/// A device in its place.
pub struct Attached {
    /// What `GET /devices` says of it.
    pub info: DeviceInfo,
    transport: Transport,
}

impl Attached {
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

/// Puts devices on the PCI bus.
pub fn attach_pci(
    made: Vec<Made>,
    bus: &PciBus,
    interrupts: &Arc<Interrupts>,
    environment: &Environment,
    manager: &DeviceManager,
) -> Result<Vec<Attached>, AttachError> {
    let messages = Messages(interrupts.clone());
    let mut attached = Vec::with_capacity(made.len());
    for Made { id, kind, device } in made {
        let transport =
            VirtioPci::new(manager.manage(device), &messages, environment.clone()).map_err(|source| {
                AttachError::Transport {
                    id: id.clone(),
                    source,
                }
            })?;
        let transport = Arc::new(Mutex::new(transport));
        let slot = bus
            .add(None, transport.clone())
            .map_err(|source| AttachError::Pci {
                id: id.clone(),
                source,
            })?;
        let info = DeviceInfo {
            id,
            kind: kind.to_owned(),
            address: format!("0000:00:{slot:02x}.0"),
        };
        attached.push(Attached {
            info,
            transport: Transport::Pci(transport),
        });
    }
    Ok(attached)
}

/// Address and interrupt of a virtio-mmio device.
pub type MmioPlace = (u64, u32);

/// Puts devices at addresses of their own. Also returns address and interrupt of each, for the ACPI tables.
pub fn attach_mmio(
    made: Vec<Made>,
    bus: &Bus,
    interrupts: &Arc<Interrupts>,
    environment: &Environment,
    manager: &DeviceManager,
) -> Result<(Vec<Attached>, Vec<MmioPlace>), AttachError> {
    let mut attached = Vec::with_capacity(made.len());
    let mut places = Vec::with_capacity(made.len());
    let mut pins = layout::MMIO_IRQS;
    for (Made { id, kind, device }, index) in made.into_iter().zip(0u64..) {
        let Some(pin) = pins.next() else {
            return Err(AttachError::NoPin {
                id,
                most: layout::MMIO_IRQS.len(),
            });
        };
        let address = layout::VIRTIO_MMIO + index * mmio::SIZE;
        let line = interrupts.line(pin).map_err(|source| AttachError::Line {
            id: id.clone(),
            source,
        })?;
        let transport = VirtioMmio::new(manager.manage(device), address, line, environment.clone()).map_err(
            |source| AttachError::Transport {
                id: id.clone(),
                source,
            },
        )?;
        let transport = Arc::new(Mutex::new(transport));
        bus.insert(address, mmio::SIZE, transport.clone())?;
        places.push((address, pin));
        let info = DeviceInfo {
            id,
            kind: kind.to_owned(),
            address: format!("{address:#x}"),
        };
        attached.push(Attached {
            info,
            transport: Transport::Mmio(transport),
        });
    }
    Ok((attached, places))
}
