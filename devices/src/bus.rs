//! An address space (port I/O or memory-mapped I/O) whose ranges belong to devices.
//!
//! The virtual CPU threads call [`Bus::read`] and [`Bus::write`] for each exit; the machine's builder calls
//! [`Bus::insert`]. Ranges never overlap. An access that no device owns, or that runs over the end of a range,
//! reads as all ones and writes nothing, as on a PC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A device that answers accesses to a range of addresses.
pub trait BusDevice: Send {
    /// Reads `data.len()` bytes at `offset` from the start of the device's range.
    fn read(&mut self, offset: u64, data: &mut [u8]);
    /// Writes `data` at `offset` from the start of the device's range.
    fn write(&mut self, offset: u64, data: &[u8]);
}

/// Why a range could not be added to a bus.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The range is empty or runs over the end of the address space.
    #[error("bus range at {base:#x} with {size:#x} bytes is empty or exceeds the address space")]
    InvalidRange {
        /// First address.
        base: u64,
        /// Number of bytes.
        size: u64,
    },
    /// Another device owns some of the range.
    #[error(
        "bus range at {base:#x} with {size:#x} bytes overlaps the one at {other:#x}; give the device a free range"
    )]
    Overlap {
        /// First address.
        base: u64,
        /// Number of bytes.
        size: u64,
        /// First address of the range that is in the way.
        other: u64,
    },
}

struct Range {
    size: u64,
    device: Arc<Mutex<dyn BusDevice>>,
}

/// Ranges of addresses and the devices that own them.
#[derive(Default)]
pub struct Bus {
    ranges: RwLock<BTreeMap<u64, Range>>,
}

impl Bus {
    /// Makes a bus without devices.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `size` bytes from `base` to `device`.
    pub fn insert(&self, base: u64, size: u64, device: Arc<Mutex<dyn BusDevice>>) -> Result<(), BusError> {
        let last = match size.checked_sub(1).and_then(|rest| base.checked_add(rest)) {
            Some(last) => last,
            None => return Err(BusError::InvalidRange { base, size }),
        };
        let mut ranges = self.ranges.write().unwrap_or_else(PoisonError::into_inner);
        // Ranges are disjoint, so only the last one that starts at or before our end can reach into ours.
        if let Some((&other, range)) = ranges.range(..=last).next_back()
            && other + (range.size - 1) >= base
        {
            return Err(BusError::Overlap { base, size, other });
        }
        ranges.insert(base, Range { size, device });
        Ok(())
    }

    /// Takes the range that starts at `base` off the bus. Returns whether there was one.
    pub fn remove(&self, base: u64) -> bool {
        self.ranges
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&base)
            .is_some()
    }

    /// Reads from the device that owns `address`. Returns whether there was one.
    pub fn read(&self, address: u64, data: &mut [u8]) -> bool {
        match self.find(address, data.len()) {
            Some((offset, device)) => {
                device
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .read(offset, data);
                true
            }
            None => {
                data.fill(0xff);
                false
            }
        }
    }

    /// Writes to the device that owns `address`. Returns whether there was one.
    pub fn write(&self, address: u64, data: &[u8]) -> bool {
        match self.find(address, data.len()) {
            Some((offset, device)) => {
                device
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .write(offset, data);
                true
            }
            None => false,
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(u64, Arc<Mutex<dyn BusDevice>>)> {
        let ranges = self.ranges.read().unwrap_or_else(PoisonError::into_inner);
        let (base, range) = ranges.range(..=address).next_back()?;
        let offset = address - base;
        let end = offset.checked_add(len as u64)?;
        (end <= range.size).then(|| (offset, range.device.clone()))
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
