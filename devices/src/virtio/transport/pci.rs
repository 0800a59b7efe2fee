//! Virtio over PCI, modern devices only (virtio 1.3 §4.1). Everything is in one 64-bit BAR: the common configuration, the
//! interrupt status, the device's configuration, one notification word per queue, and the MSI-X table. Interrupts are
//! MSI-X only; a driver without it can still poll.

use super::pci_interrupt::{MsixInterrupt, NO_VECTOR};
use super::registers::{NeedsReset, QueueAddress, Registers, RegistersState};
use super::{Machine, TransportError};
use crate::interrupt::MsiController;
use crate::pci::PciDevice;
use crate::pci::config::{Bar, Config, ConfigError, Identity};
use crate::pci::msix::{ENTRY_SIZE, Msix, MsixState};
use crate::virtio::device::{DeviceError, DeviceType, VirtioDevice};
use crate::virtio::update::Pending;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

/// The BAR that has everything.
const BAR: u8 = 0;
/// Its size and layout. Each part has its own page, so that a hypervisor in the guest may map them one by one.
const BAR_SIZE: u64 = 0x8000;
const COMMON: u64 = 0x0000;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const MSIX_TABLE: u64 = 0x4000;
const MSIX_PENDING: u64 = 0x5000;
const PAGE: u64 = 0x1000;

/// Distance of the queues' notification words.
const NOTIFY_STRIDE: u64 = 4;
/// Vendor-specific capability id.
const VENDOR_CAPABILITY: u8 = 0x09;
/// Offset of the data word in the capability that gives access by configuration space (§4.1.4.9).
const PCI_CFG_DATA: u16 = 16;

/// Kinds of virtio capabilities (§4.1.4).
#[derive(Clone, Copy)]
enum Capability {
    Common = 1,
    Notify = 2,
    Isr = 3,
    Device = 4,
    PciConfig = 5,
}

/// Offsets in the common configuration (§4.1.4.3).
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u64 = 0;
    pub(super) const DEVICE_FEATURE: u64 = 4;
    pub(super) const DRIVER_FEATURE_SELECT: u64 = 8;
    pub(super) const DRIVER_FEATURE: u64 = 12;
    pub(super) const CONFIG_VECTOR: u64 = 16;
    pub(super) const QUEUE_COUNT: u64 = 18;
    pub(super) const STATUS: u64 = 20;
    pub(super) const CONFIG_GENERATION: u64 = 21;
    pub(super) const QUEUE_SELECT: u64 = 22;
    pub(super) const QUEUE_SIZE: u64 = 24;
    pub(super) const QUEUE_VECTOR: u64 = 26;
    pub(super) const QUEUE_ENABLE: u64 = 28;
    pub(super) const QUEUE_NOTIFY_OFFSET: u64 = 30;
    pub(super) const QUEUE_DESCRIPTOR: u64 = 32;
    pub(super) const QUEUE_DRIVER: u64 = 40;
    pub(super) const QUEUE_DEVICE: u64 = 48;
    pub(super) const SIZE: u32 = 60;
}

/// What a snapshot holds of the transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The common registers.
    pub registers: RegistersState,
    /// Configuration space.
    pub config: Vec<u8>,
    /// MSI-X table.
    pub msix: MsixState,
    /// Interrupt status.
    pub isr: u8,
    /// Vector of configuration changes.
    pub config_vector: u16,
    /// Vectors of the queues.
    pub queue_vectors: Vec<u16>,
}

/// A virtio device behind PCI registers.
pub struct VirtioPci {
    registers: Registers,
    interrupt: Arc<MsixInterrupt>,
    msix: Arc<Msix>,
    config: Config,
    msix_capability: u16,
    pci_config_capability: u16,
    /// Where the queue notifications are registered with the machine.
    notify_base: Option<u64>,
}

/// Class code by kind of device; drivers look at the virtio id only, people at `lspci`.
fn class(device_type: DeviceType) -> [u8; 3] {
    match device_type {
        DeviceType::Net => [0x02, 0x00, 0x00],
        DeviceType::Block | DeviceType::FileSystem => [0x01, 0x80, 0x00],
        DeviceType::Console => [0x07, 0x80, 0x00],
        DeviceType::Vsock => [0x02, 0x80, 0x00],
        DeviceType::Rng => [0xff, 0x00, 0x00],
        DeviceType::Balloon | DeviceType::Mem | DeviceType::Pmem => [0x05, 0x80, 0x00],
    }
}

fn add_virtio_capability(
    config: &mut Config,
    kind: Capability,
    offset: u64,
    len: u32,
    extra: &[u8],
    writable: &[u8],
) -> Result<u16, ConfigError> {
    // cap_len counts the two bytes before the body.
    let cap_len = 16 + extra.len() as u8;
    let offset = (offset as u32).to_le_bytes();
    let body = [
        &[cap_len, kind as u8, BAR, 0, 0, 0][..],
        &offset,
        &len.to_le_bytes(),
        extra,
    ]
    .concat();
    config.add_capability(VENDOR_CAPABILITY, &body, writable)
}

impl VirtioPci {
    /// Puts `device` behind PCI registers. It still has to be added to a [`PciBus`](crate::pci::PciBus).
    pub fn new(
        device: Box<dyn VirtioDevice>,
        controller: &dyn MsiController,
        machine: Machine,
    ) -> Result<Self, TransportError> {
        let id = device.device_type() as u16;
        let queue_count = device.queue_sizes().len();
        let mut config = Config::new(Identity {
            vendor: 0x1af4,
            device: 0x1040 + id,
            revision: 1,
            class: class(device.device_type()),
            subsystem_vendor: 0x1af4,
            // Anything from 0x40 up says "modern" (§4.1.2.1).
            subsystem: 0x40 + id,
        });
        // One vector per queue and one for configuration changes.
        let msix =
            Msix::new(queue_count as u16 + 1, controller).map_err(|source| TransportError::Resource {
                what: "message-signalled interrupts",
                source,
            })?;
        debug_assert!(u64::from(msix.count()) * ENTRY_SIZE <= PAGE);
        let needs_reset: NeedsReset = Arc::new(AtomicBool::new(false));
        let interrupt = Arc::new(MsixInterrupt::new(msix.clone(), queue_count, needs_reset.clone()));
        let layout = |error: ConfigError| TransportError::State(error.to_string());
        config
            .add_bar(Bar {
                index: BAR,
                size: BAR_SIZE,
            })
            .map_err(layout)?;
        let page = PAGE as u32;
        let stride = (NOTIFY_STRIDE as u32).to_le_bytes();
        let notify_len = (queue_count as u64 * NOTIFY_STRIDE) as u32;
        let add = add_virtio_capability;
        add(&mut config, Capability::Common, COMMON, common::SIZE, &[], &[]).map_err(layout)?;
        add(&mut config, Capability::Isr, ISR, 1, &[], &[]).map_err(layout)?;
        add(&mut config, Capability::Device, DEVICE, page, &[], &[]).map_err(layout)?;
        add(&mut config, Capability::Notify, NOTIFY, notify_len, &stride, &[]).map_err(layout)?;
        // The driver writes bar, offset, length and data of this one.
        let mask = [&[0, 0, 0xff, 0, 0, 0][..], &[0xff; 12]].concat();
        let pci_config_capability =
            add(&mut config, Capability::PciConfig, 0, 0, &[0; 4], &mask).map_err(layout)?;
        let msix_capability = msix
            .add_capability(&mut config, BAR, MSIX_TABLE as u32, MSIX_PENDING as u32)
            .map_err(layout)?;
        let registers = Registers::new(device, machine, interrupt.clone(), needs_reset)?;
        Ok(Self {
            registers,
            interrupt,
            msix,
            config,
            msix_capability,
            pci_config_capability,
            notify_base: None,
        })
    }

    /// Makes the transport again as it was saved, around a restored device. Its BARs are where the guest put them once
    /// it is on a bus and the bus has been [refreshed](crate::pci::PciBus::refresh).
    pub fn restore_into(&mut self, state: State) -> Result<(), TransportError> {
        let mismatch = |what: &str| TransportError::State(format!("its {what} differs"));
        if !self.config.restore(&state.config) {
            return Err(mismatch("PCI configuration space"));
        }
        if state.queue_vectors.len() != self.interrupt.queue_vectors.len() {
            return Err(mismatch("number of queues"));
        }
        if !self.msix.restore(&state.msix, self.message_control()) {
            return Err(mismatch("number of MSI-X vectors"));
        }
        self.interrupt.isr.store(state.isr, Ordering::SeqCst);
        self.interrupt
            .config_vector
            .store(self.checked_vector(state.config_vector), Ordering::Release);
        for (vector, saved) in self.interrupt.queue_vectors.iter().zip(&state.queue_vectors) {
            vector.store(self.checked_vector(*saved), Ordering::Release);
        }
        self.registers.restore(state.registers)
    }

    /// What a snapshot holds. The device must be paused.
    pub fn save(&self) -> State {
        let interrupt = &self.interrupt;
        State {
            registers: self.registers.save(),
            config: self.config.save(),
            msix: self.msix.save(),
            isr: interrupt.isr.load(Ordering::SeqCst),
            config_vector: interrupt.config_vector.load(Ordering::Acquire),
            queue_vectors: interrupt
                .queue_vectors
                .iter()
                .map(|vector| vector.load(Ordering::Acquire))
                .collect(),
        }
    }

    /// The device behind the registers.
    pub fn device(&self) -> &dyn VirtioDevice {
        self.registers.device()
    }

    /// Stops the device's worker; nothing is in flight afterwards.
    pub fn pause(&mut self) -> Result<(), DeviceError> {
        self.registers.device_mut().pause()
    }

    /// Changes something of the device while the guest runs.
    pub fn update(&mut self, update: serde_json::Value) -> Pending {
        self.registers.device_mut().update(update)
    }

    /// Lets the device's worker go on.
    pub fn resume(&mut self) -> Result<(), DeviceError> {
        self.registers.device_mut().resume()
    }

    fn message_control(&self) -> u16 {
        let mut control = [0; 2];
        self.config.read(self.msix_capability + 2, &mut control);
        u16::from_le_bytes(control)
    }

    /// A vector that the driver may use, or none: it reads back what it got (§4.1.5.1.2).
    fn checked_vector(&self, vector: u16) -> u16 {
        if vector < self.msix.count() {
            vector
        } else {
            NO_VECTOR
        }
    }

    fn selected_vector(&self) -> Option<&AtomicU16> {
        self.interrupt
            .queue_vectors
            .get(usize::from(self.registers.queue_select()))
    }

    fn read_common(&mut self, offset: u64) -> u32 {
        let registers = &self.registers;
        let half = |which, high| (registers.queue_address(which) >> if high { 32 } else { 0 }) as u32;
        match offset {
            common::DEVICE_FEATURE_SELECT => registers.device_features_select(),
            common::DEVICE_FEATURE => registers.device_features(),
            common::DRIVER_FEATURE_SELECT => registers.driver_features_select(),
            common::DRIVER_FEATURE => registers.accepted_features(),
            common::CONFIG_VECTOR => u32::from(self.interrupt.config_vector.load(Ordering::Acquire)),
            common::QUEUE_COUNT => u32::from(registers.queue_count()),
            common::STATUS => u32::from(self.registers.status()),
            // Eight bits wide.
            common::CONFIG_GENERATION => registers.device().config().generation() & 0xff,
            common::QUEUE_SELECT => u32::from(registers.queue_select()),
            common::QUEUE_SIZE => u32::from(registers.queue_size()),
            common::QUEUE_VECTOR => u32::from(
                self.selected_vector()
                    .map_or(NO_VECTOR, |vector| vector.load(Ordering::Acquire)),
            ),
            common::QUEUE_ENABLE => u32::from(registers.queue_ready()),
            common::QUEUE_NOTIFY_OFFSET => u32::from(registers.queue_select()),
            _ => match queue_address(offset) {
                Some((which, high)) => half(which, high),
                None => 0,
            },
        }
    }

    fn write_common(&mut self, offset: u64, value: u32) {
        let registers = &mut self.registers;
        // Registers are written with their own width, so the casts keep what the driver wrote.
        match offset {
            common::DEVICE_FEATURE_SELECT => registers.select_device_features(value),
            common::DRIVER_FEATURE_SELECT => registers.select_driver_features(value),
            common::DRIVER_FEATURE => registers.accept_features(value),
            common::CONFIG_VECTOR => {
                self.interrupt
                    .config_vector
                    .store(self.checked_vector(value as u16), Ordering::Release);
            }
            common::STATUS => {
                if registers.write_status(value as u8) {
                    self.interrupt.forget_vectors();
                }
            }
            common::QUEUE_SELECT => registers.select_queue(value as u16),
            common::QUEUE_SIZE => registers.set_queue_size(value as u16),
            common::QUEUE_VECTOR => {
                let new = self.checked_vector(value as u16);
                let old = self
                    .selected_vector()
                    .map(|vector| vector.swap(new, Ordering::AcqRel));
                if old.is_some_and(|old| old != new) {
                    self.registers.device_mut().refresh();
                }
            }
            // The driver must not write zero here (§4.1.4.3.2).
            common::QUEUE_ENABLE if value == 1 => registers.set_queue_ready(true),
            _ => {
                if let Some((which, high)) = queue_address(offset) {
                    registers.set_queue_address(which, high, value);
                }
            }
        }
    }

    /// The range of the BAR that the driver's PCI_CFG capability names, and which bytes of its data it covers.
    fn pci_config_window(&self) -> Option<(u64, usize)> {
        let mut bytes = [0; 16];
        self.config.read(self.pci_config_capability, &mut bytes);
        let [_, _, _, _, bar, _, _, _, o0, o1, o2, o3, l0, l1, l2, l3] = bytes;
        let offset = u64::from(u32::from_le_bytes([o0, o1, o2, o3]));
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let valid =
            bar == BAR && matches!(len, 1 | 2 | 4) && offset % u64::from(len) == 0 && offset < BAR_SIZE;
        valid.then_some((offset, len as usize))
    }

    fn register_notifications(&mut self, address: Option<u64>) {
        let machine = self.registers.machine();
        for (index, fd) in self.registers.notify_fds() {
            let offset = NOTIFY + NOTIFY_STRIDE * u64::from(index);
            if let Some(old) = self.notify_base {
                // It may never have been registered; then there is nothing to undo.
                let _ = machine.notify.unregister(old + offset, None, fd);
            }
            if let Some(new) = address
                && let Err(error) = machine.notify.register(new + offset, None, fd)
            {
                tracing::debug!(%error, address = new + offset, "queue notifications take the slow way");
            }
        }
        self.notify_base = address;
    }
}

/// Which half of which queue address is at an offset of the common configuration.
fn queue_address(offset: u64) -> Option<(QueueAddress, bool)> {
    let which = match offset & !7 {
        common::QUEUE_DESCRIPTOR => QueueAddress::Descriptor,
        common::QUEUE_DRIVER => QueueAddress::Available,
        common::QUEUE_DEVICE => QueueAddress::Used,
        _ => return None,
    };
    offset
        .is_multiple_of(4)
        .then_some((which, !offset.is_multiple_of(8)))
}

impl PciDevice for VirtioPci {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        if offset == self.pci_config_capability + PCI_CFG_DATA
            && let Some((bar_offset, len)) = self.pci_config_window()
        {
            let mut word = [0; 4];
            if let Some(part) = word.get_mut(..len) {
                self.read_bar(BAR, bar_offset, part);
            }
            self.config.write(offset, &word);
        }
        self.config.read(offset, data);
    }

    fn write_config(&mut self, offset: u16, data: &[u8]) {
        self.config.write(offset, data);
        if offset == self.pci_config_capability + PCI_CFG_DATA
            && let Some((bar_offset, len)) = self.pci_config_window()
            && let Some(data) = data.get(..len)
        {
            self.write_bar(BAR, bar_offset, data);
        }
        self.msix.set_control(self.message_control());
    }

    fn read_bar(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(0);
        match offset & !(PAGE - 1) {
            COMMON => match data.len() {
                1 | 2 | 4 => {
                    let value = self.read_common(offset).to_le_bytes();
                    data.iter_mut().zip(value).for_each(|(byte, value)| *byte = value);
                }
                // Only 64-bit registers may be accessed so (§4.1.3.1).
                8 => {
                    let halves = [self.read_common(offset), self.read_common(offset + 4)];
                    let bytes = halves.into_iter().flat_map(u32::to_le_bytes);
                    data.iter_mut().zip(bytes).for_each(|(byte, value)| *byte = value);
                }
                _ => {}
            },
            // Reading acknowledges (§4.1.4.5).
            ISR if offset == ISR => {
                if let Some(byte) = data.first_mut() {
                    *byte = self.interrupt.isr.swap(0, Ordering::SeqCst);
                }
            }
            DEVICE => self.registers.device().config().read(offset - DEVICE, data),
            MSIX_TABLE => self.msix.read_table(offset - MSIX_TABLE, data),
            MSIX_PENDING => self.msix.read_pending(offset - MSIX_PENDING, data),
            _ => {}
        }
    }

    fn write_bar(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        match offset & !(PAGE - 1) {
            COMMON => {
                for (index, word) in data.chunks(4).enumerate() {
                    let mut bytes = [0; 4];
                    bytes
                        .iter_mut()
                        .zip(word)
                        .for_each(|(byte, value)| *byte = *value);
                    self.write_common(offset + 4 * index as u64, u32::from_le_bytes(bytes));
                }
            }
            DEVICE => self.registers.device_mut().write_config(offset - DEVICE, data),
            // At most 1,024 words in a page.
            NOTIFY => self
                .registers
                .notify_queue(((offset - NOTIFY) / NOTIFY_STRIDE) as u16),
            MSIX_TABLE => self.msix.write_table(offset - MSIX_TABLE, data),
            _ => {}
        }
    }

    fn bar_moved(&mut self, _bar: u8, address: Option<u64>) {
        self.register_notifications(address);
    }
}

impl Drop for VirtioPci {
    fn drop(&mut self) {
        self.register_notifications(None);
    }
}

#[cfg(test)]
#[path = "pci_tests.rs"]
mod tests;
