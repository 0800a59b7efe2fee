//! The device-specific configuration space (virtio 1.3 §2.5): bytes that the driver reads while the device's worker
//! may change them, with a generation number that tells the driver when it must read again (§2.5.1).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// The configuration bytes of one device.
#[derive(Debug, Default)]
pub struct ConfigSpace {
    bytes: Mutex<Vec<u8>>,
    generation: AtomicU32,
}

impl ConfigSpace {
    /// Makes a configuration space that holds `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Mutex::new(bytes),
            generation: AtomicU32::new(0),
        }
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
