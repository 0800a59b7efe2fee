//! A record of the chains that a device has, in memory that outlives the device's process: whoever serves the queue after
//! it died finds there what was taken and never answered, and does it again.
//!
//! The layout is that of vhost-user for split queues (QEMU's `docs/interop/vhost-user.rst`, "Inflight I/O tracking"), so
//! that back ends of several makes can follow each other. It is written so that a death at any moment leaves it right. The
//! memory is shared with the front end: what is read from it is checked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use vm_memory::volatile_memory::VolatileMemory;
use vm_memory::{AtomicAccess, Bytes, MmapRegion};

/// Where the fields of a queue's part are: version, number of descriptors, head of the last batch, used index, descriptors.
const VERSION: usize = 8;
const DESCRIPTORS: usize = 10;
const LAST_BATCH: usize = 12;
const USED: usize = 14;
const FIRST: usize = 16;
/// Bytes of each descriptor's entry, and where its fields are; whether it is in flight comes first.
const ENTRY: usize = 16;
const NEXT: usize = 6;
const COUNTER: usize = 8;
/// Parts begin where cache lines do.
const ALIGN: usize = 64;

/// One queue's part of a record.
pub struct Record {
    memory: Arc<MmapRegion>,
    offset: usize,
    entries: u16,
    taken: u64,
}

impl Record {
    /// Bytes of the part of a queue with so many entries.
    pub fn len(entries: u16) -> usize {
        (FIRST + ENTRY * usize::from(entries)).next_multiple_of(ALIGN)
    }

    /// The part at `offset`, which has to be as long as [`len`](Self::len) says.
    pub fn new(memory: Arc<MmapRegion>, offset: usize, entries: u16) -> Self {
        Self {
            memory,
            offset,
            entries,
            taken: 0,
        }
    }

    fn load<T: AtomicAccess + Default>(&self, at: usize) -> T {
        let value = self
            .memory
            .as_volatile_slice()
            .load(self.offset + at, Ordering::Acquire);
        // It is in the memory: that was checked when the record was made.
        value.unwrap_or_default()
    }

    fn store<T: AtomicAccess>(&self, at: usize, value: T) {
        // As above.
        let _ = self
            .memory
            .as_volatile_slice()
            .store(value, self.offset + at, Ordering::Release);
    }

    /// Where a descriptor's entry is.
    fn entry(&self, head: u16) -> usize {
        FIRST + ENTRY * usize::from(head % self.entries)
    }

    /// Takes over from whoever died, given the used ring's index. Returns the heads of the chains to be done again, in the
    /// order in which they were taken.
    pub(super) fn take_over(&mut self, used: u16) -> Vec<u16> {
        if self.load::<u16>(VERSION) == 0 {
            self.store(DESCRIPTORS, self.entries);
            self.store(USED, used);
            self.store(VERSION, 1_u16);
        }
        // A batch is listed before the driver sees it, and its chains are in flight until after that.
        let batch = used.wrapping_sub(self.load(USED)).min(self.entries);
        let mut head = self.load::<u16>(LAST_BATCH);
        for _ in 0..batch {
            self.store(self.entry(head), 0_u8);
            head = self.load(self.entry(head) + NEXT);
        }
        self.store(USED, used);
        let in_flight = |head: &u16| self.load::<u8>(self.entry(*head)) == 1;
        let mut again: Vec<_> = (0..self.entries).filter(in_flight).collect();
        let counter = |head: &u16| self.load::<u64>(self.entry(*head) + COUNTER);
        again.sort_by_key(counter);
        self.taken = again
            .iter()
            .map(counter)
            .max()
            .map_or(0, |last| last.wrapping_add(1));
        again
    }

    /// The device takes a chain.
    pub(super) fn take(&mut self, head: u16) {
        self.store(self.entry(head) + COUNTER, self.taken);
        self.taken = self.taken.wrapping_add(1);
        self.store(self.entry(head), 1_u8);
    }

    /// Chains are about to be given back.
    pub(super) fn list(&mut self, heads: impl Iterator<Item = u16>) {
        for head in heads {
            self.store(self.entry(head) + NEXT, self.load::<u16>(LAST_BATCH));
            self.store(LAST_BATCH, head);
        }
    }

    /// They have been given back, and the used ring's index is this one now.
    pub(super) fn given_back(&mut self, heads: impl Iterator<Item = u16>, used: u16) {
        for head in heads {
            self.store(self.entry(head), 0_u8);
        }
        self.store(USED, used);
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
