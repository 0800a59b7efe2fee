//! The ways by which a guest reaches the PCI bus: the ports 0xcf8/0xcfc (PCI 3.0 §3.2.2.3.2), the enhanced configuration
//! access mechanism (PCI Express 5.0 §7.2.2), and the memory windows.

use super::bus::PciBus;
use crate::bus::BusDevice;
use std::sync::Arc;

/// First of the configuration ports.
pub const CONFIG_PORTS_BASE: u64 = 0xcf8;
/// Number of configuration ports: address at 0, data at 4.
pub const CONFIG_PORTS_SIZE: u64 = 8;
/// Bytes of address space of the enhanced mechanism for one bus.
pub const ECAM_SIZE: u64 = 1 << 20;

/// The ports 0xcf8 to 0xcff.
pub struct ConfigPorts {
    bus: Arc<PciBus>,
    address: u32,
}

/// What an address names.
struct Target {
    slot: u8,
    function: u8,
    offset: u16,
}

impl ConfigPorts {
    pub(super) fn new(bus: Arc<PciBus>) -> Self {
        Self { bus, address: 0 }
    }

    /// The address register, for a snapshot.
    pub fn address(&self) -> u32 {
        self.address
    }

    /// Restores the address register.
    pub fn set_address(&mut self, address: u32) {
        self.address = address;
    }

    /// What the data port stands for, if the enable bit is set and the bus is ours.
    fn target(&self, port: u64) -> Option<Target> {
        let [low, devfn, bus, high] = self.address.to_le_bytes();
        let enabled = high & 0x80 != 0 && bus == 0;
        enabled.then(|| Target {
            slot: devfn >> 3,
            function: devfn & 7,
            // At most 0xfc + 3.
            offset: u16::from(low & 0xfc) + (port & 3) as u16,
        })
    }
}

impl BusDevice for ConfigPorts {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if offset < 4 {
            for (index, byte) in data.iter_mut().enumerate() {
                *byte = self
                    .address
                    .to_le_bytes()
                    .get(offset as usize + index)
                    .copied()
                    .unwrap_or(0xff);
            }
            return;
        }
        match self.target(offset) {
            Some(target) => self
                .bus
                .read_config(target.slot, target.function, target.offset, data),
            None => data.fill(0xff),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if offset < 4 {
            // Only whole writes reach the address register (§3.2.2.3.2); port 0xcf9 is not ours.
            if let (0, Ok(bytes)) = (offset, <[u8; 4]>::try_from(data)) {
                self.address = u32::from_le_bytes(bytes);
            }
        } else if let Some(target) = self.target(offset) {
            self.bus
                .write_config(target.slot, target.function, target.offset, data);
        }
    }
}

/// The enhanced configuration space of bus 0: 4 KiB per function.
pub struct Ecam {
    bus: Arc<PciBus>,
}

impl Ecam {
    pub(super) fn new(bus: Arc<PciBus>) -> Self {
        Self { bus }
    }

    /// Each part is masked to its width, so the casts keep everything.
    fn target(offset: u64) -> Target {
        Target {
            slot: (offset >> 15 & 0x1f) as u8,
            function: (offset >> 12 & 7) as u8,
            offset: (offset & 0xfff) as u16,
        }
    }
}

impl BusDevice for Ecam {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        let target = Self::target(offset);
        self.bus
            .read_config(target.slot, target.function, target.offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let target = Self::target(offset);
        self.bus
            .write_config(target.slot, target.function, target.offset, data);
    }
}

/// A range of guest addresses in which BARs decode.
pub struct Window {
    bus: Arc<PciBus>,
    base: u64,
}

impl Window {
    pub(super) fn new(bus: Arc<PciBus>, base: u64) -> Self {
        Self { bus, base }
    }
}

impl BusDevice for Window {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        match self.base.checked_add(offset) {
            Some(address) => self.bus.read_memory(address, data),
            None => data.fill(0xff),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let Some(address) = self.base.checked_add(offset) {
            self.bus.write_memory(address, data);
        }
    }
}
