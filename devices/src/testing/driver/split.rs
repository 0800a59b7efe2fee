//! The driver's end of a split ring.

use super::{RawPart, descriptor};
use crate::testing::Guest;
use crate::virtio::queue::QueueState;
use std::collections::HashMap;

pub(super) fn layout(guest: &Guest, size: u16) -> QueueState {
    let len = u64::from(size);
    QueueState {
        size,
        ready: true,
        descriptor_table: guest.alloc(16 * len),
        available_ring: guest.alloc(6 + 2 * len),
        used_ring: guest.alloc(6 + 8 * len),
        ..QueueState::default()
    }
}

pub(super) struct SplitRing {
    state: QueueState,
    free: Vec<u16>,
    /// The descriptors of each request by its first.
    taken: HashMap<u16, Vec<u16>>,
    available: u16,
    /// How far the device was told, or did not want to be.
    told: u16,
    seen: u16,
}

#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panic")]
impl SplitRing {
    pub(super) fn new(state: &QueueState) -> Self {
        Self {
            state: state.clone(),
            free: (0..state.size).rev().collect(),
            taken: HashMap::new(),
            available: 0,
            told: 0,
            seen: 0,
        }
    }

    pub(super) fn add(&mut self, guest: &Guest, segments: &[RawPart], indirect: bool) -> u16 {
        let count = if indirect { 1 } else { segments.len() };
        let descriptors: Vec<u16> = (0..count)
            .map(|_| self.free.pop().expect("a free descriptor"))
            .collect();
        let numbers: Vec<u16> = match indirect {
            true => (0..segments.len() as u16).collect(),
            false => descriptors.clone(),
        };
        let mut table = self.state.descriptor_table;
        if indirect {
            let indirect = guest.alloc(16 * segments.len() as u64);
            let bytes = descriptor(indirect, 16 * segments.len() as u32, [4, 0]);
            guest.write(table + 16 * u64::from(descriptors[0]), &bytes);
            table = indirect;
        }
        for (index, (address, len, write)) in segments.iter().enumerate() {
            let next = numbers.get(index + 1).copied();
            let flags = u16::from(next.is_some()) | u16::from(*write) << 1;
            let bytes = descriptor(*address, *len, [flags, next.unwrap_or(0)]);
            guest.write(table + 16 * u64::from(numbers[index]), &bytes);
        }
        let head = descriptors[0];
        self.taken.insert(head, descriptors);
        self.publish(guest, head);
        head
    }

    pub(super) fn publish(&mut self, guest: &Guest, head: u16) {
        let slot = u64::from(self.available % self.state.size);
        guest.write(self.state.available_ring + 4 + 2 * slot, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        guest.write_u16(self.state.available_ring + 2, self.available);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.values().map(Vec::len).sum()
    }

    pub(super) fn want_interrupt(&self, guest: &Guest) {
        let used_event = self.state.available_ring + 4 + 2 * u64::from(self.state.size);
        guest.write_u16(used_event, self.seen);
    }

    pub(super) fn want_interrupts(&self, guest: &Guest, wanted: bool) {
        guest.write_u16(self.state.available_ring, u16::from(!wanted));
    }

    pub(super) fn device_wants_notification(&mut self, guest: &Guest, event_idx: bool) -> bool {
        let (new, old) = (self.available, std::mem::replace(&mut self.told, self.available));
        let available_event = self.state.used_ring + 4 + 8 * u64::from(self.state.size);
        match event_idx {
            // §2.7.10.
            true => {
                let event = guest.read_u16(available_event);
                new == old || new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
            }
            false => guest.read_u16(self.state.used_ring) == 0,
        }
    }

    pub(super) fn poll(&mut self, guest: &Guest) -> Option<(u16, u32)> {
        if guest.read_u16(self.state.used_ring + 2) == self.seen {
            return None;
        }
        let slot = u64::from(self.seen % self.state.size);
        let entry = guest.read(self.state.used_ring + 4 + 8 * slot, 8);
        self.seen = self.seen.wrapping_add(1);
        let head = u16::from_le_bytes([entry[0], entry[1]]);
        self.free.extend(self.taken.remove(&head).unwrap_or_default());
        Some((head, u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]])))
    }
}
