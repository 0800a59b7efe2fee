//! The device-specific configuration space (virtio 1.3 §2.5): bytes that the driver reads while the device's worker
//! may change them, with a generation number that tells the driver when it must read again (§2.5.1). Few devices have
//! fields that the driver writes.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// The configuration bytes of one device.
#[derive(Debug, Default)]
pub struct ConfigSpace {
    bytes: Mutex<Vec<u8>>,
    generation: AtomicU32,
    /// What the driver may write.
    writable: Range<usize>,
}

impl ConfigSpace {
    /// Makes a configuration space that holds `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Mutex::new(bytes),
            generation: AtomicU32::new(0),
            writable: 0..0,
        }
    }

    /// Lets the driver write to these bytes.
    #[must_use]
    pub fn with_writable(mut self, writable: Range<usize>) -> Self {
        self.writable = writable;
        self
    }

    /// The driver writes at `offset`. Bytes that it may not write stay as they are.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, new) in data.iter().enumerate() {
            let at = offset.saturating_add(index);
            if self.writable.contains(&at)
                && let Some(old) = bytes.get_mut(at)
            {
                *old = *new;
            }
        }
    }

    /// Four bytes at `offset` as a number.
    pub fn read_u32(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Reads at `offset`; bytes beyond the end read as zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = offset
                .checked_add(index)
                .and_then(|at| bytes.get(at))
                .copied()
                .unwrap_or(0);
        }
    }

    /// Replaces the bytes at `offset` (those within the space) and counts the generation up.
    pub fn update(&self, offset: usize, new: &[u8]) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        for (old, new) in bytes.iter_mut().skip(offset).zip(new) {
            *old = *new;
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever the contents change.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
#[path = "config_space_tests.rs"]
mod tests;
