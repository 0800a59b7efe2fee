//! PCI slots: where devices are put at the start, and come and go while the guest runs.
//!
//! A device that is added is announced by the slots' [registers](devices::hotplug), and the guest finds it on the bus. One
//! that is removed stays until the guest lets go of it: that happens on a vCPU's thread, which takes the device off the bus
//! at once and signals [`let_go_event`](Slots::let_go_event); the control thread does the rest. A guest that does not let go
//! can lose the device by force, as when a cable is pulled; its slot is free again once the guest has cleaned up.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use devices::hotplug::{Hotplug, Registers};
use devices::pci::bus::SLOTS;
use devices::pci::{PciBus, PciError};
use devices::virtio::transport::Machine as Environment;
use devices::virtio::transport::pci::VirtioPci;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use super::transport::{Attached, Transport};
use super::{AttachError, Made};
use crate::control::state::{DeviceInfo, DeviceState};
use crate::device_manager::DeviceManager;
use crate::kvm::interrupts::{Interrupts, Messages};

/// Slots that the guest has let go of since the control thread looked.
struct LetGo {
    slots: AtomicU32,
    event: EventFd,
}

/// The slots of the PCI bus, and what it takes to put devices there.
pub struct Slots {
    bus: Arc<PciBus>,
    messages: Messages,
    environment: Environment,
    manager: DeviceManager,
    hotplug: Arc<Hotplug>,
    let_go: Arc<LetGo>,
}

impl Slots {
    /// The slots of this bus.
    pub fn new(
        bus: Arc<PciBus>,
        interrupts: &Arc<Interrupts>,
        environment: Environment,
        manager: DeviceManager,
    ) -> io::Result<Self> {
        let let_go = Arc::new(LetGo {
            slots: AtomicU32::new(0),
            event: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
        });
        let (left, told) = (bus.clone(), let_go.clone());
        let hotplug = Hotplug::new(Box::new(move |slot| {
            // Whoever has the device drops it later: that takes longer than a vCPU should wait.
            drop(left.remove(slot));
            told.slots.fetch_or(1 << slot, Ordering::SeqCst);
            // Fails only when it is signalled already.
            let _ = told.event.write(1);
        }));
        Ok(Self {
            bus,
            messages: Messages(interrupts.clone()),
            environment,
            manager,
            hotplug,
            let_go,
        })
    }

    /// The guest's end.
    #[must_use]
    pub fn registers(&self) -> Registers {
        self.hotplug.registers()
    }

    /// Signalled when the guest has let go of a device.
    #[must_use]
    pub fn let_go_event(&self) -> &EventFd {
        &self.let_go.event
    }

    /// Slots whose devices the guest has let go of since the last call.
    #[must_use]
    pub fn take_let_go(&self) -> Vec<u8> {
        // Fails only when it is not signalled.
        let _ = self.let_go.event.read();
        let slots = self.let_go.slots.swap(0, Ordering::SeqCst);
        (0..SLOTS).filter(|slot| slots & 1 << slot != 0).collect()
    }

    /// Puts a device into the first free slot.
    pub fn attach(&self, made: Made) -> Result<Attached, AttachError> {
        let Made {
            id,
            kind,
            removable,
            device,
        } = made;
        let device = self.manager.manage(device);
        let transport = VirtioPci::new(device, &self.messages, self.environment.clone());
        let transport = transport.map_err(|source| AttachError::Transport {
            id: id.clone(),
            source,
        })?;
        let transport = Arc::new(Mutex::new(transport));
        let free = |slot: &u8| !self.hotplug.is_held(*slot) && self.bus.device(*slot).is_none();
        let slot = (0..SLOTS).find(free).ok_or(PciError::Full);
        let slot = slot.and_then(|slot| self.bus.add(Some(slot), transport.clone()));
        let slot = slot.map_err(|source| AttachError::Pci {
            id: id.clone(),
            source,
        })?;
        if removable {
            self.hotplug.hold(slot);
        }
        Ok(Attached {
            info: DeviceInfo {
                id,
                kind: kind.to_owned(),
                address: format!("0000:00:{slot:02x}.0"),
                state: DeviceState::Present,
            },
            slot: removable.then_some(slot),
            transport: Transport::Pci(transport),
        })
    }

    /// Announces a device to a guest that runs already; it has to be told to look.
    pub fn announce(&self, attached: &Attached) {
        if let Some(slot) = attached.slot {
            self.hotplug.add(slot);
        }
    }

    /// Asks the guest to let go of a device; it has to be told to look.
    pub fn ask(&self, attached: &Attached) {
        if let Some(slot) = attached.slot {
            self.hotplug.ask(slot);
        }
    }

    /// Takes a device from a guest that has not run yet.
    pub fn withdraw(&self, attached: &Attached) {
        if let Some(slot) = attached.slot {
            self.hotplug.forget(slot);
            drop(self.bus.remove(slot));
        }
    }

    /// Takes a device by force; the guest has to be told to look, so that it cleans up.
    pub fn take(&self, attached: &Attached) {
        if let Some(slot) = attached.slot {
            self.hotplug.take(slot);
            drop(self.bus.pull(slot));
        }
    }
}
