//! Interrupts by irqfd: lines to pins of the I/O APIC, and message-signalled interrupts through the routing table.
//!
//! Raising an interrupt is one write to an event descriptor; everything else happens in the kernel. The routing table
//! is replaced as a whole on each change (KVM API §4.52), which guests cause a few times while they boot.

use std::io;
use std::sync::{Arc, Mutex};

use devices::interrupt::{InterruptLine, MsiController, MsiVector};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::arch::layout::IO_APIC_PINS;
use crate::lock::lock;

/// Pins of the two legacy interrupt controllers.
const PIC_PINS: u32 = 16;
/// The most messages one VM has: 27 devices with a handful of queues each need a tenth of it.
const MAX_MESSAGES: usize = 1024;

/// A message as the guest programmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    address: u64,
    data: u32,
}

/// State of one message number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Free,
    Allocated(Option<Message>),
}

/// The VM's interrupts.
pub struct Interrupts {
    vm: Arc<VmFd>,
    slots: Mutex<Vec<Slot>>,
}

impl Interrupts {
    /// For this VM, whose interrupt controllers exist.
    #[must_use]
    pub fn new(vm: Arc<VmFd>) -> Arc<Self> {
        Arc::new(Self {
            vm,
            slots: Mutex::new(Vec::new()),
        })
    }

    /// A line to a pin of the I/O APIC.
    pub fn line(&self, pin: u32) -> io::Result<Arc<dyn InterruptLine>> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        self.vm.register_irqfd(&event, pin)?;
        Ok(Arc::new(Line { event }))
    }

    /// Gives KVM the routing table with these messages.
    fn commit(&self, slots: &[Slot]) -> io::Result<()> {
        let entries = routes(slots);
        let table = KvmIrqRouting::from_entries(&entries).map_err(io::Error::other)?;
        self.vm.set_gsi_routing(&table)?;
        Ok(())
    }
}

/// Number of a slot's interrupt: messages follow the pins.
fn gsi(slot: usize) -> u32 {
    IO_APIC_PINS + slot as u32
}

/// The routing table: pins as KVM sets them up by itself, then the messages that have been programmed.
fn routes(slots: &[Slot]) -> Vec<kvm_irq_routing_entry> {
    let mut entries = Vec::new();
    let mut chip = |gsi: u32, irqchip: u32, pin: u32| {
        let mut entry = kvm_irq_routing_entry {
            gsi,
            type_: KVM_IRQ_ROUTING_IRQCHIP,
            ..Default::default()
        };
        entry.u.irqchip.irqchip = irqchip;
        entry.u.irqchip.pin = pin;
        entries.push(entry);
    };
    for pin in 0..IO_APIC_PINS {
        if pin < PIC_PINS {
            chip(
                pin,
                if pin < 8 {
                    KVM_IRQCHIP_PIC_MASTER
                } else {
                    KVM_IRQCHIP_PIC_SLAVE
                },
                pin % 8,
            );
        }
        chip(pin, KVM_IRQCHIP_IOAPIC, pin);
    }
    for (slot, state) in slots.iter().enumerate() {
        if let Slot::Allocated(Some(message)) = state {
            let mut entry = kvm_irq_routing_entry {
                gsi: gsi(slot),
                type_: KVM_IRQ_ROUTING_MSI,
                ..Default::default()
            };
            entry.u.msi.address_lo = message.address as u32;
            entry.u.msi.address_hi = (message.address >> 32) as u32;
            entry.u.msi.data = message.data;
            entries.push(entry);
        }
    }
    entries
}

struct Line {
    event: EventFd,
}

impl InterruptLine for Line {
    fn trigger(&self) -> io::Result<()> {
        self.event.write(1)
    }
}

/// Hands out messages of a VM.
pub struct Messages(pub Arc<Interrupts>);

impl MsiController for Messages {
    fn allocate(&self) -> io::Result<Arc<dyn MsiVector>> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let mut slots = lock(&self.0.slots);
        let slot = match slots.iter().position(|slot| *slot == Slot::Free) {
            Some(slot) => slot,
            None if slots.len() < MAX_MESSAGES => {
                slots.push(Slot::Free);
                slots.len() - 1
            }
            None => {
                return Err(io::Error::other(format!(
                    "all {MAX_MESSAGES} interrupt messages are taken"
                )));
            }
        };
        if let Some(state) = slots.get_mut(slot) {
            *state = Slot::Allocated(None);
        }
        Ok(Arc::new(Vector {
            interrupts: self.0.clone(),
            slot,
            event,
            connected: Mutex::new(false),
        }))
    }
}

/// One message. While it is masked its descriptor is not connected to the VM, so that signals collect in it and the
/// interrupt comes as soon as it is unmasked: KVM looks at the descriptor when it is connected.
struct Vector {
    interrupts: Arc<Interrupts>,
    slot: usize,
    event: EventFd,
    connected: Mutex<bool>,
}

impl MsiVector for Vector {
    fn set(&self, address: u64, data: u32, masked: bool) -> io::Result<()> {
        let mut connected = lock(&self.connected);
        let gsi = gsi(self.slot);
        if masked {
            if *connected {
                self.interrupts.vm.unregister_irqfd(&self.event, gsi)?;
                *connected = false;
            }
            return Ok(());
        }
        let wanted = Slot::Allocated(Some(Message { address, data }));
        {
            let mut slots = lock(&self.interrupts.slots);
            if let Some(state) = slots.get_mut(self.slot)
                && *state != wanted
            {
                let old = std::mem::replace(state, wanted);
                if let Err(error) = self.interrupts.commit(&slots) {
                    // A message that KVM does not take must not spoil the next commit.
                    if let Some(state) = slots.get_mut(self.slot) {
                        *state = old;
                    }
                    return Err(error);
                }
            }
        }
        if !*connected {
            self.interrupts.vm.register_irqfd(&self.event, gsi)?;
            *connected = true;
        }
        Ok(())
    }

    fn trigger(&self) -> io::Result<()> {
        self.event.write(1)
    }

    fn eventfd(&self) -> Option<&EventFd> {
        Some(&self.event)
    }
}

impl Drop for Vector {
    fn drop(&mut self) {
        if *lock(&self.connected) {
            // Closing the descriptor disconnects it too.
            let _ = self.interrupts.vm.unregister_irqfd(&self.event, gsi(self.slot));
        }
        let mut slots = lock(&self.interrupts.slots);
        if let Some(state) = slots.get_mut(self.slot) {
            *state = Slot::Free;
        }
    }
}

#[cfg(test)]
#[path = "interrupts_tests.rs"]
mod tests;
