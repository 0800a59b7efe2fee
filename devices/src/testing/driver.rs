//! A driver's end of a queue.

use super::Guest;
use crate::virtio::queue::QueueState;
use vmm_sys_util::eventfd::EventFd;

/// Part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes for the device.
    Read(Vec<u8>),
    /// Room for this many bytes from the device.
    Write(u32),
}

/// A request that the device has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    head: u16,
    descriptors: Vec<u16>,
    writable: Vec<(u64, u32)>,
}

/// The driver's end of a queue.
pub struct DriverQueue {
    guest: Guest,
    /// Where the queue lies.
    pub state: QueueState,
    notify: EventFd,
    free: Vec<u16>,
    pending: Vec<Pending>,
    available: u16,
    seen: u16,
    indirect: bool,
}

#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panic")]
impl DriverQueue {
    /// Lays out a queue in guest memory.
    pub fn new(guest: &Guest, size: u16, notify: EventFd) -> Self {
        let len = u64::from(size);
        let state = QueueState {
            size,
            ready: true,
            descriptor_table: guest.alloc(16 * len),
            available_ring: guest.alloc(6 + 2 * len),
            used_ring: guest.alloc(6 + 8 * len),
            next_available: 0,
            next_used: 0,
        };
        Self {
            guest: guest.clone(),
            state,
            notify,
            free: (0..size).rev().collect(),
            pending: Vec::new(),
            available: 0,
            seen: 0,
            indirect: false,
        }
    }

    /// Notifies by another descriptor from now on.
    pub fn set_notify(&mut self, notify: EventFd) {
        self.notify = notify;
    }

    /// Uses indirect descriptors from now on.
    pub fn set_indirect(&mut self, indirect: bool) {
        self.indirect = indirect;
    }

    fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        bytes
    }

    /// Adds a request without telling the device. Returns its head.
    pub fn add(&mut self, parts: &[Part]) -> u16 {
        let mut segments = Vec::new();
        for part in parts {
            segments.push(match part {
                Part::Read(bytes) => {
                    let address = self.guest.alloc(bytes.len() as u64);
                    self.guest.write(address, bytes);
                    (address, bytes.len() as u32, false)
                }
                Part::Write(len) => (self.guest.alloc(u64::from(*len)), *len, true),
            });
        }
        self.add_raw(&segments)
    }

    /// Adds a request of these addresses, lengths and directions (true: the device writes), whatever they are.
    pub fn add_raw(&mut self, segments: &[(u64, u32, bool)]) -> u16 {
        let writable = segments
            .iter()
            .filter(|segment| segment.2)
            .map(|segment| (segment.0, segment.1))
            .collect();
        let count = if self.indirect { 1 } else { segments.len() };
        let descriptors: Vec<u16> = (0..count)
            .map(|_| self.free.pop().expect("a free descriptor"))
            .collect();
        let numbers: Vec<u16> = match self.indirect {
            true => (0..segments.len() as u16).collect(),
            false => descriptors.clone(),
        };
        let mut table = self.state.descriptor_table;
        if self.indirect {
            let indirect = self.guest.alloc(16 * segments.len() as u64);
            let bytes = Self::descriptor(indirect, 16 * segments.len() as u32, 4, 0);
            self.guest.write(table + 16 * u64::from(descriptors[0]), &bytes);
            table = indirect;
        }
        for (index, (address, len, write)) in segments.iter().enumerate() {
            let next = numbers.get(index + 1).copied();
            let flags = u16::from(next.is_some()) | u16::from(*write) << 1;
            let bytes = Self::descriptor(*address, *len, flags, next.unwrap_or(0));
            self.guest.write(table + 16 * u64::from(numbers[index]), &bytes);
        }
        let head = descriptors[0];
        self.pending.push(Pending {
            head,
            descriptors,
            writable,
        });
        self.publish(head);
        head
    }

    /// Puts any number into the available ring.
    pub fn publish(&mut self, head: u16) {
        let slot = u64::from(self.available % self.state.size);
        self.guest
            .write(self.state.available_ring + 4 + 2 * slot, &head.to_le_bytes());
        self.available = self.available.wrapping_add(1);
        self.guest
            .write_u16(self.state.available_ring + 2, self.available);
    }

    /// Tells the device where to interrupt next (with EVENT_IDX): at the next used entry.
    pub fn want_interrupt(&self) {
        self.guest.write_u16(
            self.state.available_ring + 4 + 2 * u64::from(self.state.size),
            self.seen,
        );
    }

    /// Notifies the device.
    pub fn kick(&self) {
        self.notify.write(1).expect("notify the device");
    }

    /// Takes the next used request, if there is one: its head, the number of bytes, and what was written to it.
    pub fn poll(&mut self) -> Option<(u16, u32, Vec<u8>)> {
        if self.guest.read_u16(self.state.used_ring + 2) == self.seen {
            return None;
        }
        let slot = u64::from(self.seen % self.state.size);
        let entry = self.guest.read(self.state.used_ring + 4 + 8 * slot, 8);
        self.seen = self.seen.wrapping_add(1);
        let head = u16::from_le_bytes([entry[0], entry[1]]);
        let len = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let index = self
            .pending
            .iter()
            .position(|pending| pending.head == head)
            .expect("a request we made");
        let pending = self.pending.remove(index);
        self.free.extend(pending.descriptors);
        let mut bytes = Vec::new();
        for (address, room) in pending.writable {
            bytes.extend(self.guest.read(address, room as usize));
        }
        Some((head, len, bytes))
    }

    /// Requests that the device has not given back.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }
}
