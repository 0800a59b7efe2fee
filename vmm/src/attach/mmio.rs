//! virtio-mmio: devices at addresses of their own, which the guest finds in its ACPI tables, once and for all.

use std::sync::{Arc, Mutex};

use devices::bus::Bus;
use devices::virtio::transport::Machine as Environment;
use devices::virtio::transport::mmio::{self, VirtioMmio};

use super::transport::{Attached, Transport};
use super::{AttachError, Made};
use crate::arch::layout;
use crate::control::state::{DeviceInfo, DeviceState};
use crate::device_manager::DeviceManager;
use crate::kvm::interrupts::Interrupts;

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
    for (Made { id, kind, device, .. }, index) in made.into_iter().zip(0u64..) {
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
            state: DeviceState::Present,
        };
        attached.push(Attached {
            info,
            slot: None,
            transport: Transport::Mmio(transport),
        });
    }
    Ok((attached, places))
}
