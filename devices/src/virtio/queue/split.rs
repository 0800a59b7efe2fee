//! Split virtqueues (virtio 1.3 §2.7): a table of descriptors, a ring in which the driver makes chains of them available,
//! and one in which the device gives them back.

use super::chain::{Chain, Collector};
use super::{Broken, Part, QueueError, QueueState, Record, Ring};
use crate::memory::Ram;
use std::sync::atomic::{Ordering, fence};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

/// Bytes of a descriptor (§2.7.5).
const DESCRIPTOR: u64 = 16;
/// VIRTQ_AVAIL_F_NO_INTERRUPT (§2.7.6): the driver polls.
const AVAIL_NO_INTERRUPT: u16 = 1;

/// The three parts: 16 bytes a descriptor; rings with flags, index and event index around their entries (§2.7).
pub(super) fn parts(state: &QueueState) -> [Part; 3] {
    let size = usize::from(state.size);
    [
        Part::new("descriptor table", state.descriptor_table, 16, 16 * size),
        Part::new("available ring", state.available_ring, 2, 6 + 2 * size),
        Part::new("used ring", state.used_ring, 4, 6 + 8 * size),
    ]
}

/// A split queue.
pub(super) struct Split {
    queue: Queue,
    /// The next used entry at the time the driver was last told.
    told: u16,
    record: Option<Record>,
    /// Heads of chains to be taken again before others, the next one last.
    again: Vec<u16>,
}

impl Split {
    pub(super) fn new(
        index: u16,
        max_size: u16,
        state: &QueueState,
        event_idx: bool,
    ) -> Result<Self, QueueError> {
        let size = state.size;
        let size_error = |_| QueueError::Size { index, size };
        let mut queue = Queue::new(max_size).map_err(size_error)?;
        queue.try_set_size(size).map_err(size_error)?;
        let address_error = |part, address| move |_| QueueError::Address { index, part, address };
        queue
            .try_set_desc_table_address(GuestAddress(state.descriptor_table))
            .map_err(address_error("descriptor table", state.descriptor_table))?;
        queue
            .try_set_avail_ring_address(GuestAddress(state.available_ring))
            .map_err(address_error("available ring", state.available_ring))?;
        queue
            .try_set_used_ring_address(GuestAddress(state.used_ring))
            .map_err(address_error("used ring", state.used_ring))?;
        queue.set_next_avail(state.next_available);
        queue.set_next_used(state.next_used);
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Ok(Self {
            queue,
            told: state.next_used,
            record: None,
            again: Vec::new(),
        })
    }

    /// The head of the next chain, if there is one.
    fn next_head(&mut self, ram: &Ram) -> Result<Option<u16>, Broken> {
        if let Some(head) = self.again.pop() {
            return Ok(Some(head));
        }
        let available = self.queue.iter(ram);
        let mut available = available.map_err(|_| Broken("more chains than entries"))?;
        Ok(available.next().map(|chain| chain.head_index()))
    }

    /// Follows a chain from its head (§2.7.5), and into an indirect table where it leads to one (§2.7.5.3).
    fn collect(&self, ram: &Ram, head: u16) -> Result<Chain, Broken> {
        let mut collector = Collector::default();
        let (mut table, mut entries, mut indirect) =
            (self.queue.desc_table(), u32::from(self.queue.size()), false);
        let mut next = head;
        // A circle has too many descriptors for the collector.
        loop {
            if u32::from(next) >= entries {
                return Err(Broken("descriptor outside of its table"));
            }
            let address = table.checked_add(DESCRIPTOR * u64::from(next));
            let descriptor = address.and_then(|address| ram.read_obj(GuestAddress(address)).ok());
            let descriptor: Descriptor = descriptor.ok_or(Broken("descriptor outside of guest memory"))?;
            if descriptor.refers_to_indirect_table() {
                if indirect || u64::from(descriptor.len()) % DESCRIPTOR != 0 {
                    return Err(Broken("indirect table in another, or of an impossible length"));
                }
                (table, next, indirect) = (descriptor.addr().0, 0, true);
                entries = descriptor.len() / DESCRIPTOR as u32;
                continue;
            }
            collector.add(descriptor.addr().0, descriptor.len(), descriptor.is_write_only())?;
            if !descriptor.has_next() {
                return Ok(collector.finish(head));
            }
            next = descriptor.next();
        }
    }
}

const UNWRITABLE: Broken = Broken("used ring cannot be written");

impl Ring for Split {
    fn pop(&mut self, ram: &Ram) -> Result<Option<Chain>, Broken> {
        let Some(head) = self.next_head(ram)? else {
            return Ok(None);
        };
        let chain = self.collect(ram, head)?;
        if let Some(record) = &mut self.record {
            record.take(head);
        }
        Ok(Some(chain))
    }

    fn undo_pop(&mut self, head: u16) {
        match &mut self.record {
            // It may have been one to be taken again, which the available ring does not have any more.
            Some(_) => self.again.push(head),
            None => self.queue.go_to_previous_position(),
        }
    }

    fn add_used(&mut self, ram: &Ram, used: &[(u16, u32)]) -> Result<(), Broken> {
        let ring = self.queue.used_ring();
        let mut next = self.queue.next_used();
        for (head, len) in used {
            // The ring lies in memory as a whole: that was checked when it was set up.
            let entry = ring + 4 + 8 * u64::from(next % self.queue.size());
            let value = u64::from(*len) << 32 | u64::from(*head);
            ram.write_obj(value.to_le(), GuestAddress(entry))
                .map_err(|_| UNWRITABLE)?;
            next = next.wrapping_add(1);
        }
        self.queue.set_next_used(next);
        let heads = || used.iter().map(|(head, _)| *head);
        if let Some(record) = &mut self.record {
            record.list(heads());
        }
        // Only now the driver sees them, all at once.
        ram.store(next.to_le(), GuestAddress(ring + 2), Ordering::Release)
            .map_err(|_| UNWRITABLE)?;
        if let Some(record) = &mut self.record {
            record.given_back(heads(), next);
        }
        Ok(())
    }

    fn wants_interrupt(&mut self, ram: &Ram) -> bool {
        // What was given back must be there for all to see before we look at what the driver wants (§2.7.7.2).
        fence(Ordering::SeqCst);
        let now = self.queue.next_used();
        let before = std::mem::replace(&mut self.told, now);
        let event_idx = self.queue.event_idx_enabled();
        let offset = if event_idx {
            4 + 2 * u64::from(self.queue.size())
        } else {
            0
        };
        let word = ram.load(GuestAddress(self.queue.avail_ring() + offset), Ordering::Relaxed);
        match (word.map(u16::from_le), event_idx) {
            (Ok(event), true) => now.wrapping_sub(event).wrapping_sub(1) < now.wrapping_sub(before),
            (Ok(flags), false) => flags & AVAIL_NO_INTERRUPT == 0,
            (Err(_), _) => true,
        }
    }

    fn disable_notification(&mut self, ram: &Ram) -> Result<(), Broken> {
        self.queue.disable_notification(ram).map_err(|_| UNWRITABLE)
    }

    fn enable_notification(&mut self, ram: &Ram) -> Result<bool, Broken> {
        self.queue.enable_notification(ram).map_err(|_| UNWRITABLE)
    }

    fn served_elsewhere(&mut self, ram: &Ram, next_available: Option<u16>) {
        if let Ok(used) = self.queue.used_idx(ram, Ordering::Acquire) {
            self.queue.set_next_used(used.0);
            self.queue.set_next_avail(next_available.unwrap_or(used.0));
            self.told = used.0;
        }
    }

    fn keep_record(&mut self, mut record: Record) {
        let used = self.queue.next_used();
        self.again = record.take_over(used);
        if !self.again.is_empty() {
            // All that was taken was answered, or is in the record.
            let taken = used.wrapping_add(self.again.len() as u16);
            self.queue.set_next_avail(taken);
            self.again.reverse();
        }
        self.record = Some(record);
    }

    fn state(&self) -> QueueState {
        QueueState {
            size: self.queue.size(),
            ready: true,
            descriptor_table: self.queue.desc_table(),
            available_ring: self.queue.avail_ring(),
            used_ring: self.queue.used_ring(),
            next_available: self.queue.next_avail(),
            next_used: self.queue.next_used(),
            ..QueueState::default()
        }
    }
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
