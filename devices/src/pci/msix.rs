//! MSI-X (PCI 3.0 §6.8.2): the capability, the vector table and the pending bits that a device keeps in a BAR.
//!
//! The virtual CPUs program the table, workers trigger vectors; both meet in [`Msix`] behind one lock that nobody holds
//! for longer than a system call.

use super::config::{Config, ConfigError};
use crate::interrupt::{MsiController, MsiVector};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// Capability id.
const CAPABILITY_ID: u8 = 0x11;
/// Message control: all vectors are masked.
const FUNCTION_MASK: u16 = 1 << 14;
/// Message control: MSI-X is on.
const ENABLE: u16 = 1 << 15;
/// Bytes per table entry: address (8), data (4), vector control (4).
pub const ENTRY_SIZE: u64 = 16;
/// Vector control: this vector is masked.
const MASKED: u32 = 1;

/// One entry of the table as the guest wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Where the message goes.
    pub address: u64,
    /// What it says.
    pub data: u32,
    /// Bit 0 masks the vector.
    pub control: u32,
}

/// What a snapshot holds, apart from the capability, which is part of the configuration space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MsixState {
    /// The table.
    pub entries: Vec<Entry>,
    /// Vectors that were triggered while masked.
    pub pending: Vec<bool>,
}

struct Vector {
    entry: Entry,
    pending: bool,
    message: Arc<dyn MsiVector>,
    /// What `message` was last told.
    told: (u64, u32, bool),
}

struct Inner {
    control: u16,
    vectors: Vec<Vector>,
}

/// The MSI-X vectors of one device.
pub struct Msix {
    inner: Mutex<Inner>,
}

impl Msix {
    /// Reserves `count` vectors, all masked.
    pub fn new(count: u16, controller: &dyn MsiController) -> io::Result<Arc<Self>> {
        let mut vectors = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            vectors.push(Vector {
                entry: Entry {
                    address: 0,
                    data: 0,
                    control: MASKED,
                },
                pending: false,
                message: controller.allocate()?,
                told: (0, 0, true),
            });
        }
        Ok(Arc::new(Self {
            inner: Mutex::new(Inner { control: 0, vectors }),
        }))
    }

    /// Adds the capability to a configuration space: the table at `table` and the pending bits at `pending` in `bar`.
    /// Returns the offset of the capability.
    pub fn add_capability(
        &self,
        config: &mut Config,
        bar: u8,
        table: u32,
        pending: u32,
    ) -> Result<u16, ConfigError> {
        // The field holds one less than the number of vectors.
        let size = (self.lock().vectors.len().saturating_sub(1) as u16).to_le_bytes();
        let table = (table | u32::from(bar)).to_le_bytes();
        let pending = (pending | u32::from(bar)).to_le_bytes();
        let body = [&size[..], &table, &pending].concat();
        config.add_capability(CAPABILITY_ID, &body, &(FUNCTION_MASK | ENABLE).to_le_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of vectors.
    pub fn count(&self) -> u16 {
        self.lock().vectors.len() as u16
    }

    /// Whether the guest has switched MSI-X on.
    pub fn enabled(&self) -> bool {
        self.lock().control & ENABLE != 0
    }

    /// The guest wrote the capability's message control.
    pub fn set_control(&self, control: u16) {
        let mut inner = self.lock();
        let control = control & (FUNCTION_MASK | ENABLE);
        if inner.control != control {
            inner.control = control;
            for index in 0..inner.vectors.len() {
                inner.follow(index);
            }
        }
    }

    /// Sends a vector's message, or notes that it is pending while masked. Vectors that do not exist are ignored.
    pub fn trigger(&self, vector: u16) {
        let mut inner = self.lock();
        let (enabled, masked_all) = (inner.control & ENABLE != 0, inner.control & FUNCTION_MASK != 0);
        let Some(vector) = inner.vectors.get_mut(usize::from(vector)).filter(|_| enabled) else {
            return;
        };
        match masked_all || vector.entry.control & MASKED != 0 {
            true => vector.pending = true,
            false => send(&*vector.message),
        }
    }

    /// The descriptor whose signal sends a vector's message, whatever the guest makes of the vector later: signals of a
    /// masked one wait in the descriptor.
    pub fn eventfd(&self, vector: u16) -> Option<EventFd> {
        let inner = self.lock();
        let vector = inner.vectors.get(usize::from(vector))?;
        vector.message.eventfd()?.try_clone().ok()
    }

    /// The guest reads the table. Accesses are aligned and of 4 or 8 bytes (§6.8.2); others read as zero.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if !offset.is_multiple_of(4) {
            return;
        }
        let inner = self.lock();
        for (index, word) in data.chunks_exact_mut(4).enumerate() {
            let at = offset + 4 * index as u64;
            let Some(vector) = inner.vectors.get((at / ENTRY_SIZE) as usize) else {
                return;
            };
            let entry = vector.entry;
            let value = match at % ENTRY_SIZE {
                0 => entry.address as u32,
                4 => (entry.address >> 32) as u32,
                8 => entry.data,
                _ => entry.control,
            };
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The guest writes the table.
    pub fn write_table(&self, offset: u64, data: &[u8]) {
        if !offset.is_multiple_of(4) {
            return;
        }
        let mut inner = self.lock();
        for (index, word) in data.chunks_exact(4).enumerate() {
            let at = offset + 4 * index as u64;
            let number = (at / ENTRY_SIZE) as usize;
            let Some(vector) = inner.vectors.get_mut(number) else {
                return;
            };
            let Ok(word) = <[u8; 4]>::try_from(word) else {
                return;
            };
            let value = u32::from_le_bytes(word);
            let entry = &mut vector.entry;
            match at % ENTRY_SIZE {
                0 => entry.address = entry.address & !0xffff_ffff | u64::from(value),
                4 => entry.address = entry.address & 0xffff_ffff | u64::from(value) << 32,
                8 => entry.data = value,
                _ => entry.control = value & MASKED,
            }
            inner.follow(number);
        }
    }

    /// The guest reads the pending bits.
    pub fn read_pending(&self, offset: u64, data: &mut [u8]) {
        let mut inner = self.lock();
        inner.collect();
        for (index, byte) in data.iter_mut().enumerate() {
            let first = (offset as usize).saturating_add(index).saturating_mul(8);
            let bits = inner.vectors.iter().skip(first).take(8).zip(0u8..);
            *byte = bits.fold(0, |byte, (vector, bit)| byte | u8::from(vector.pending) << bit);
        }
    }

    /// What a snapshot holds.
    pub fn save(&self) -> MsixState {
        let mut inner = self.lock();
        inner.collect();
        MsixState {
            entries: inner.vectors.iter().map(|vector| vector.entry).collect(),
            pending: inner.vectors.iter().map(|vector| vector.pending).collect(),
        }
    }

    /// Takes over a saved state and the message control of the restored capability. Returns false if the number of
    /// vectors differs.
    pub fn restore(&self, state: &MsixState, control: u16) -> bool {
        let mut inner = self.lock();
        if state.entries.len() != inner.vectors.len() || state.pending.len() != inner.vectors.len() {
            return false;
        }
        inner.control = control & (FUNCTION_MASK | ENABLE);
        for (index, (entry, pending)) in state.entries.iter().zip(&state.pending).enumerate() {
            if let Some(vector) = inner.vectors.get_mut(index) {
                vector.entry = *entry;
                vector.pending = *pending;
            }
            inner.follow(index);
        }
        true
    }
}

impl Inner {
    /// Notes which masked vectors have been signalled past this struct, by their descriptors.
    fn collect(&mut self) {
        for vector in &mut self.vectors {
            // A masked vector's descriptor is connected to nothing that would read it.
            if vector.told.2 && vector.message.eventfd().is_some_and(|event| event.read().is_ok()) {
                vector.pending = true;
            }
        }
    }

    /// Tells the machine about a vector's message if that changed, and sends what waited for the mask to go away.
    fn follow(&mut self, index: usize) {
        let masked_all = self.control & ENABLE == 0 || self.control & FUNCTION_MASK != 0;
        let Some(vector) = self.vectors.get_mut(index) else {
            return;
        };
        let masked = masked_all || vector.entry.control & MASKED != 0;
        let wanted = (vector.entry.address, vector.entry.data, masked);
        // A masked vector's message does not matter, and the guest writes it in several steps.
        if wanted != vector.told && !(masked && vector.told.2) {
            if let Err(error) = vector.message.set(wanted.0, wanted.1, wanted.2) {
                tracing::debug!(%error, index, "message-signalled interrupt cannot be routed");
                return;
            }
            vector.told = wanted;
        }
        if !masked && vector.pending {
            vector.pending = false;
            send(&*vector.message);
        }
    }
}

fn send(message: &dyn MsiVector) {
    if let Err(error) = message.trigger() {
        tracing::debug!(%error, "message-signalled interrupt cannot be sent");
    }
}

#[cfg(test)]
#[path = "msix_tests.rs"]
mod tests;
