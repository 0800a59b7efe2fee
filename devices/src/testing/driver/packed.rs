//! The driver's end of a packed ring.

use super::{RawPart, descriptor};
use crate::testing::Guest;
use crate::virtio::queue::QueueState;
use std::collections::HashMap;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

pub(super) fn layout(guest: &Guest, size: u16) -> QueueState {
    QueueState {
        size,
        ready: true,
        descriptor_table: guest.alloc(16 * u64::from(size)),
        available_ring: guest.alloc(4),
        used_ring: guest.alloc(4),
        ..QueueState::default()
    }
}

pub(super) struct PackedRing {
    state: QueueState,
    /// Where the next request goes, counted on from round to round.
    next: u64,
    /// How far the device was told, or did not want to be.
    told: u64,
    /// Where the next used descriptor is, likewise.
    seen: u64,
    /// Number of descriptors of each request by its id.
    taken: HashMap<u16, u64>,
    /// The next id: any number is one.
    id: u16,
}

#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panic")]
impl PackedRing {
    pub(super) fn new(state: &QueueState) -> Self {
        Self {
            state: state.clone(),
            next: 0,
            told: 0,
            seen: 0,
            taken: HashMap::new(),
            id: 0xfff0,
        }
    }

    /// Where a descriptor lies, and the wrap counter of its round.
    fn place(&self, position: u64) -> (u64, bool) {
        let size = u64::from(self.state.size);
        let address = self.state.descriptor_table + 16 * (position % size);
        (address, (position / size).is_multiple_of(2))
    }

    pub(super) fn add(&mut self, guest: &Guest, segments: &[RawPart], indirect: bool) -> u16 {
        let id = self.id;
        self.id = id.wrapping_add(1);
        let bits = |write: &bool| if *write { WRITE } else { 0 };
        let mut descriptors = Vec::new();
        if indirect {
            let table = guest.alloc(16 * segments.len() as u64);
            for (index, (address, len, write)) in segments.iter().enumerate() {
                let bytes = descriptor(*address, *len, [0, bits(write)]);
                guest.write(table + 16 * index as u64, &bytes);
            }
            descriptors.push((table, 16 * segments.len() as u32, INDIRECT));
        } else {
            for (index, (address, len, write)) in segments.iter().enumerate() {
                let next = if index + 1 < segments.len() { NEXT } else { 0 };
                descriptors.push((*address, *len, bits(write) | next));
            }
        }
        let count = descriptors.len() as u64;
        let taken = self.taken() + descriptors.len();
        assert!(taken <= usize::from(self.state.size), "no free descriptors");
        // The first one comes last (§2.8.21.1): with it all are there.
        for (index, (address, len, flags)) in descriptors.into_iter().enumerate().rev() {
            let (place, wrap) = self.place(self.next + index as u64);
            let flags = flags | if wrap { AVAILABLE } else { USED };
            guest.write(place, &descriptor(address, len, [id, 0])[..14]);
            guest.write_u16(place + 14, flags);
        }
        self.next += count;
        self.taken.insert(id, count);
        id
    }

    fn events(&self, position: u64) -> u16 {
        let size = u64::from(self.state.size);
        let (_, wrap) = self.place(position);
        (position % size) as u16 | u16::from(wrap) << 15
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.values().sum::<u64>() as usize
    }

    pub(super) fn want_interrupt(&self, guest: &Guest) {
        guest.write_u16(self.state.available_ring, self.events(self.seen));
        guest.write_u16(self.state.available_ring + 2, 2);
    }

    pub(super) fn want_interrupts(&self, guest: &Guest, wanted: bool) {
        guest.write_u16(self.state.available_ring + 2, u16::from(!wanted));
    }

    pub(super) fn device_wants_notification(&mut self, guest: &Guest) -> bool {
        let (new, old) = (self.next, std::mem::replace(&mut self.told, self.next));
        match guest.read_u16(self.state.used_ring + 2) {
            0 => true,
            1 => false,
            _ => {
                let wanted = guest.read_u16(self.state.used_ring);
                new == old || (old..new).any(|position| self.events(position) == wanted)
            }
        }
    }

    pub(super) fn poll(&mut self, guest: &Guest) -> Option<(u16, u32)> {
        let (place, wrap) = self.place(self.seen);
        let flags = guest.read_u16(place + 14);
        if (flags & AVAILABLE != 0) != wrap || (flags & USED != 0) != wrap {
            return None;
        }
        let bytes = guest.read(place + 8, 6);
        let id = u16::from_le_bytes([bytes[4], bytes[5]]);
        // Who gives back what it does not have breaks the driver; tests with noise do.
        self.seen += self.taken.remove(&id).unwrap_or(1);
        let len = match flags & WRITE {
            0 => 0,
            _ => u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        };
        Some((id, len))
    }
}
