//! A type 0 configuration space (PCI 3.0 §6.1): 256 bytes, each with a mask of bits that the guest may write, base address
//! registers with sizing, and a list of capabilities. PCI Express' extended space reads as zero.

/// Bytes in the conventional configuration space.
const SIZE: usize = 256;
/// Offset of the command register.
const COMMAND: usize = 0x04;
/// Offset of the status register.
const STATUS: usize = 0x06;
/// The status bit that says there are capabilities.
const STATUS_CAPABILITIES: u8 = 1 << 4;
/// Offset of the first base address register.
const BARS: usize = 0x10;
/// Number of base address registers.
const BAR_COUNT: u8 = 6;
/// Offset of the pointer to the first capability.
const CAPABILITY_POINTER: usize = 0x34;
/// Capabilities follow the 64-byte header.
const CAPABILITIES: usize = 0x40;
/// Command register: I/O space, memory space, bus master, interrupt disable. Only these can be set.
const COMMAND_WRITABLE: u16 = 1 | COMMAND_MEMORY | 1 << 2 | 1 << 10;
/// Command register: the device answers memory accesses.
const COMMAND_MEMORY: u16 = 1 << 1;

/// What a device is: the identification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision id.
    pub revision: u8,
    /// Class code: base class, subclass, programming interface.
    pub class: [u8; 3],
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
}

/// A 64-bit memory BAR. It takes two registers, `index` and the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Number of its first register.
    pub index: u8,
    /// Number of bytes, a power of two of at least 16.
    pub size: u64,
}

/// Why a configuration space cannot be laid out as asked. Only our own devices ask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The BAR's registers or size do not exist.
    #[error("BAR {} of {:#x} bytes is invalid or taken", .0.index, .0.size)]
    Bar(Bar),
    /// No room.
    #[error("no room for a capability of {0} bytes")]
    CapabilityTooLarge(usize),
}

/// A configuration space.
#[derive(Debug, Clone)]
pub struct Config {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    bars: Vec<Bar>,
    /// Where the next capability goes.
    free: usize,
    /// Offset of the last capability's pointer to the next.
    last_pointer: usize,
}

impl Config {
    /// Makes a configuration space without BARs or capabilities.
    pub fn new(identity: Identity) -> Self {
        let mut config = Self {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            bars: Vec::new(),
            free: CAPABILITIES,
            last_pointer: CAPABILITY_POINTER,
        };
        let [base, sub, interface] = identity.class;
        config.set(0x00, &identity.vendor.to_le_bytes());
        config.set(0x02, &identity.device.to_le_bytes());
        config.set(0x08, &[identity.revision, interface, sub, base]);
        config.set(0x2c, &identity.subsystem_vendor.to_le_bytes());
        config.set(0x2e, &identity.subsystem.to_le_bytes());
        config.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        // The interrupt line register is the guest's note to itself (§6.2.4).
        config.allow(0x3c, &[0xff]);
        config
    }

    fn set(&mut self, offset: usize, bytes: &[u8]) {
        for (old, new) in self.bytes.iter_mut().skip(offset).zip(bytes) {
            *old = *new;
        }
    }

    fn allow(&mut self, offset: usize, mask: &[u8]) {
        for (old, new) in self.writable.iter_mut().skip(offset).zip(mask) {
            *old = *new;
        }
    }

    fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut value = [0; N];
        for (new, old) in value.iter_mut().zip(self.bytes.iter().skip(offset)) {
            *new = *old;
        }
        value
    }

    /// Adds a base address register.
    pub fn add_bar(&mut self, bar: Bar) -> Result<(), ConfigError> {
        let taken = self.bars.iter().any(|other| other.index.abs_diff(bar.index) < 2);
        if bar.index >= BAR_COUNT - 1 || !bar.size.is_power_of_two() || bar.size < 16 || taken {
            return Err(ConfigError::Bar(bar));
        }
        let offset = BARS + 4 * usize::from(bar.index);
        // Memory, 64 bits, not prefetchable (§6.2.5.1). Address bits below the size read as zero, which is how the
        // guest finds the size.
        self.set(offset, &0x4u64.to_le_bytes());
        self.allow(offset, &(!(bar.size - 1)).to_le_bytes());
        self.bars.push(bar);
        Ok(())
    }

    /// The base address registers.
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// Where a BAR points, whether or not the device answers there.
    pub fn bar_address(&self, index: u8) -> Option<u64> {
        self.bars.iter().find(|bar| bar.index == index)?;
        let offset = BARS + 4 * usize::from(index);
        Some(u64::from_le_bytes(self.get(offset)) & !0xf)
    }

    /// Points a BAR to an address, as firmware does.
    pub fn place_bar(&mut self, index: u8, address: u64) {
        if let Some(bar) = self.bars.iter().find(|bar| bar.index == index) {
            let value = address & !(bar.size - 1) | 0x4;
            self.set(BARS + 4 * usize::from(index), &value.to_le_bytes());
        }
    }

    /// Whether the guest lets the device answer memory accesses.
    pub fn memory_enabled(&self) -> bool {
        u16::from_le_bytes(self.get(COMMAND)) & COMMAND_MEMORY != 0
    }

    /// Where a BAR decodes: where it points, if memory accesses are enabled.
    pub fn decoded_bar(&self, index: u8) -> Option<u64> {
        self.bar_address(index).filter(|_| self.memory_enabled())
    }

    /// Adds a capability (§6.7): `body` is what follows id and next pointer, `writable` the bits of it that the guest may
    /// write. Returns the capability's offset.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> Result<u16, ConfigError> {
        let offset = self.free;
        let end = offset + 2 + body.len();
        if end > SIZE {
            return Err(ConfigError::CapabilityTooLarge(body.len()));
        }
        // Offsets are below 256.
        self.set(self.last_pointer, &[offset as u8]);
        self.set(offset, &[id, 0]);
        self.set(offset + 2, body);
        self.allow(offset + 2, writable);
        let [status] = self.get(STATUS);
        self.set(STATUS, &[status | STATUS_CAPABILITIES]);
        self.last_pointer = offset + 1;
        self.free = end.next_multiple_of(4);
        Ok(offset as u16)
    }

    /// Adds registers special to the device, outside of header and capabilities, with the bits that the guest may write.
    pub fn add_registers(&mut self, offset: u16, bytes: &[u8], writable: &[u8]) {
        let offset = usize::from(offset);
        self.set(offset, bytes);
        self.allow(offset, writable);
        self.free = self.free.max((offset + bytes.len()).next_multiple_of(4));
    }

    /// Changes a byte, whether or not the guest may.
    pub fn set_byte(&mut self, offset: u16, value: u8) {
        self.set(usize::from(offset), &[value]);
    }

    /// Reads; what is beyond the conventional space is zero.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(usize::from(offset) + index).copied().unwrap_or(0);
        }
    }

    /// Writes those bits that the guest may write.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let offset = usize::from(offset);
        let cells = self.bytes.iter_mut().zip(&self.writable).skip(offset);
        for ((byte, mask), new) in cells.zip(data) {
            *byte = *byte & !mask | new & mask;
        }
    }

    /// The 256 bytes, for a snapshot.
    pub fn save(&self) -> Vec<u8> {
        self.bytes.to_vec()
    }

    /// Takes over the writable bits of a snapshot. Returns false if the rest differs: that was another device.
    pub fn restore(&mut self, saved: &[u8]) -> bool {
        let same = saved.len() == SIZE
            && saved
                .iter()
                .zip(&self.bytes)
                .zip(&self.writable)
                .all(|((new, old), mask)| new & !mask == old & !mask);
        if same {
            self.set(0, saved);
        }
        same
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
