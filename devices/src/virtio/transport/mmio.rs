//! Virtio over MMIO, version 2 (virtio 1.3 §4.2): one page of registers and one interrupt line per device. Smaller and
//! faster to set up than PCI, at the price of discovery by command line or ACPI.
//!
//! Drivers take a reset for done when they have written it (Linux does not read the status afterwards, as it does with
//! PCI), and use the memory of their requests for something else. So that write lasts as long as the reset.

use super::registers::{NeedsReset, QueueAddress, Registers, RegistersState};
use super::{Machine, TransportError};
use crate::bus::BusDevice;
use crate::interrupt::InterruptLine;
use crate::virtio::device::{DeviceError, Interrupt, VirtioDevice};
use crate::virtio::update::Pending;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// How often a reset is looked after that is not done at once.
const RESET_POLL: Duration = Duration::from_millis(1);

/// Bytes of address space that a device takes.
pub const SIZE: u64 = 0x1000;

/// Register offsets (§4.2.2, table 4.1).
mod register {
    pub(super) const MAGIC: u64 = 0x00;
    pub(super) const VERSION: u64 = 0x04;
    pub(super) const DEVICE_ID: u64 = 0x08;
    pub(super) const VENDOR_ID: u64 = 0x0c;
    pub(super) const DEVICE_FEATURES: u64 = 0x10;
    pub(super) const DEVICE_FEATURES_SELECT: u64 = 0x14;
    pub(super) const DRIVER_FEATURES: u64 = 0x20;
    pub(super) const DRIVER_FEATURES_SELECT: u64 = 0x24;
    pub(super) const QUEUE_SELECT: u64 = 0x30;
    pub(super) const QUEUE_SIZE_MAX: u64 = 0x34;
    pub(super) const QUEUE_SIZE: u64 = 0x38;
    pub(super) const QUEUE_READY: u64 = 0x44;
    pub(super) const QUEUE_NOTIFY: u64 = 0x50;
    pub(super) const INTERRUPT_STATUS: u64 = 0x60;
    pub(super) const INTERRUPT_ACK: u64 = 0x64;
    pub(super) const STATUS: u64 = 0x70;
    pub(super) const QUEUE_DESCRIPTOR: u64 = 0x80;
    pub(super) const QUEUE_DRIVER: u64 = 0x90;
    pub(super) const QUEUE_DEVICE: u64 = 0xa0;
    pub(super) const SHM_LEN_LOW: u64 = 0xb0;
    pub(super) const SHM_BASE_HIGH: u64 = 0xbc;
    pub(super) const CONFIG_GENERATION: u64 = 0xfc;
    pub(super) const CONFIG: u64 = 0x100;
}

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// "VRGA", little-endian; any value is allowed.
const VENDOR: u32 = 0x4147_5256;

/// Bits of the interrupt status register.
const INTERRUPT_QUEUE: u32 = 1;
const INTERRUPT_CONFIG: u32 = 2;

struct LineInterrupt {
    status: AtomicU32,
    line: Arc<dyn InterruptLine>,
    needs_reset: NeedsReset,
}

impl LineInterrupt {
    fn raise(&self, cause: u32) {
        self.status.fetch_or(cause, Ordering::SeqCst);
        if let Err(error) = self.line.trigger() {
            tracing::debug!(%error, "interrupt line cannot be raised");
        }
    }
}

impl Interrupt for LineInterrupt {
    fn queue(&self, _index: u16) {
        self.raise(INTERRUPT_QUEUE);
    }

    fn config(&self) {
        self.raise(INTERRUPT_CONFIG);
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.raise(INTERRUPT_CONFIG);
    }
}

/// What a snapshot holds of the transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The common registers.
    pub registers: RegistersState,
    /// Interrupt causes that the driver has not acknowledged.
    pub interrupt_status: u32,
}

/// A virtio device behind MMIO registers.
pub struct VirtioMmio {
    registers: Registers,
    interrupt: Arc<LineInterrupt>,
    base: u64,
}

impl VirtioMmio {
    /// Puts `device` at guest address `base`, where it takes [`SIZE`] bytes.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        base: u64,
        line: Arc<dyn InterruptLine>,
        machine: Machine,
    ) -> Result<Self, TransportError> {
        let needs_reset: NeedsReset = Arc::new(AtomicBool::new(false));
        let interrupt = Arc::new(LineInterrupt {
            status: AtomicU32::new(0),
            line,
            needs_reset: needs_reset.clone(),
        });
        let registers = Registers::new(device, machine, interrupt.clone(), needs_reset)?;
        for (index, fd) in registers.notify_fds() {
            let address = base + register::QUEUE_NOTIFY;
            if let Err(error) = registers
                .machine()
                .notify
                .register(address, Some(u32::from(index)), fd)
            {
                tracing::debug!(%error, address, "queue notifications take the slow way");
            }
        }
        Ok(Self {
            registers,
            interrupt,
            base,
        })
    }

    /// Makes the transport again as it was saved, around a restored device.
    pub fn restore(
        state: State,
        device: Box<dyn VirtioDevice>,
        base: u64,
        line: Arc<dyn InterruptLine>,
        machine: Machine,
    ) -> Result<Self, TransportError> {
        let mut transport = Self::new(device, base, line, machine)?;
        transport
            .interrupt
            .status
            .store(state.interrupt_status, Ordering::SeqCst);
        transport.registers.restore(state.registers)?;
        Ok(transport)
    }

    /// What a snapshot holds. The device must be paused.
    pub fn save(&self) -> State {
        State {
            registers: self.registers.save(),
            interrupt_status: self.interrupt.status.load(Ordering::SeqCst),
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

    fn read_register(&mut self, offset: u64) -> u32 {
        let registers = &mut self.registers;
        match offset {
            register::MAGIC => MAGIC,
            register::VERSION => 2,
            register::DEVICE_ID => registers.device().device_type() as u32,
            register::VENDOR_ID => VENDOR,
            register::DEVICE_FEATURES => registers.device_features(),
            register::QUEUE_SIZE_MAX => u32::from(registers.queue_max_size()),
            register::QUEUE_READY => u32::from(registers.queue_ready()),
            register::INTERRUPT_STATUS => self.interrupt.status.load(Ordering::SeqCst),
            register::STATUS => u32::from(registers.status()),
            // A length of all ones says that there is no such shared memory region (§4.2.2.1).
            register::SHM_LEN_LOW..=register::SHM_BASE_HIGH => u32::MAX,
            register::CONFIG_GENERATION => registers.device().config().generation(),
            _ => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        let registers = &mut self.registers;
        match offset {
            register::DEVICE_FEATURES_SELECT => registers.select_device_features(value),
            register::DRIVER_FEATURES => registers.accept_features(value),
            register::DRIVER_FEATURES_SELECT => registers.select_driver_features(value),
            // Numbers that do not fit name no queue.
            register::QUEUE_SELECT => registers.select_queue(u16::try_from(value).unwrap_or(u16::MAX)),
            register::QUEUE_SIZE => registers.set_queue_size(u16::try_from(value).unwrap_or(0)),
            register::QUEUE_READY => registers.set_queue_ready(value == 1),
            register::QUEUE_NOTIFY => registers.notify_queue(u16::try_from(value).unwrap_or(u16::MAX)),
            register::INTERRUPT_ACK => {
                self.interrupt.status.fetch_and(!value, Ordering::SeqCst);
            }
            register::STATUS => {
                if registers.write_status(value as u8) {
                    while registers.is_resetting() {
                        std::thread::sleep(RESET_POLL);
                    }
                    self.interrupt.status.store(0, Ordering::SeqCst);
                }
            }
            _ => {
                for (start, which) in [
                    (register::QUEUE_DESCRIPTOR, QueueAddress::Descriptor),
                    (register::QUEUE_DRIVER, QueueAddress::Available),
                    (register::QUEUE_DEVICE, QueueAddress::Used),
                ] {
                    if offset == start || offset == start + 4 {
                        registers.set_queue_address(which, offset != start, value);
                    }
                }
            }
        }
    }
}

impl BusDevice for VirtioMmio {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match offset.checked_sub(register::CONFIG) {
            Some(offset) => self.registers.device().config().read(offset, data),
            // Registers are 32 bits wide and accessed whole (§4.2.2.2).
            None => match <&mut [u8; 4]>::try_from(data) {
                Ok(data) => *data = self.read_register(offset).to_le_bytes(),
                Err(_) => tracing::trace!(
                    offset,
                    "virtio-mmio register read with a width other than 32 bits"
                ),
            },
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match offset.checked_sub(register::CONFIG) {
            Some(offset) => self.registers.device_mut().write_config(offset, data),
            None => match <[u8; 4]>::try_from(data) {
                Ok(data) => self.write_register(offset, u32::from_le_bytes(data)),
                Err(_) => tracing::trace!(
                    offset,
                    "virtio-mmio register written with a width other than 32 bits"
                ),
            },
        }
    }
}

impl Drop for VirtioMmio {
    fn drop(&mut self) {
        for (index, fd) in self.registers.notify_fds() {
            let address = self.base + register::QUEUE_NOTIFY;
            // It may never have been registered; then there is nothing to undo.
            let _ = self
                .registers
                .machine()
                .notify
                .unregister(address, Some(u32::from(index)), fd);
        }
    }
}

#[cfg(test)]
#[path = "mmio_tests.rs"]
mod tests;
