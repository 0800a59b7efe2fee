//! A driver's end of a queue, in either form.

mod packed;
mod split;

use super::Guest;
use crate::virtio::queue::QueueState;
use packed::PackedRing;
use split::SplitRing;
use std::sync::atomic::{Ordering, fence};
use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::EventFd;

/// Part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes for the device.
    Read(Vec<u8>),
    /// Room for this many bytes from the device.
    Write(u32),
}

/// A descriptor's address, length and direction (true: the device writes).
type RawPart = (u64, u32, bool);

/// A request that the device has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    head: u16,
    writable: Vec<(u64, u32)>,
}

enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

/// The driver's end of a queue.
pub struct DriverQueue {
    guest: Guest,
    /// Where the queue lies.
    pub state: QueueState,
    notify: EventFd,
    ring: Ring,
    pending: Vec<Pending>,
    indirect: bool,
    event_idx: bool,
}

#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panic")]
impl DriverQueue {
    /// Lays out a split queue in guest memory.
    pub fn new(guest: &Guest, size: u16, notify: EventFd) -> Self {
        Self::with_features(guest, size, 0, notify)
    }

    /// Lays out a queue in guest memory, in the form that these features say.
    pub fn with_features(guest: &Guest, size: u16, features: u64, notify: EventFd) -> Self {
        let packed = features & 1 << VIRTIO_F_RING_PACKED != 0;
        let state = match packed {
            true => packed::layout(guest, size),
            false => split::layout(guest, size),
        };
        let ring = match packed {
            true => Ring::Packed(PackedRing::new(&state)),
            false => Ring::Split(SplitRing::new(&state)),
        };
        Self {
            guest: guest.clone(),
            state,
            notify,
            ring,
            pending: Vec::new(),
            indirect: false,
            event_idx: features & 1 << VIRTIO_RING_F_EVENT_IDX != 0,
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

    /// Adds a request without telling the device. Returns the number by which it comes back.
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
        let head = match &mut self.ring {
            Ring::Split(ring) => ring.add(&self.guest, segments, self.indirect),
            Ring::Packed(ring) => ring.add(&self.guest, segments, self.indirect),
        };
        self.pending.push(Pending { head, writable });
        head
    }

    /// Puts any number into a split queue's available ring.
    pub fn publish(&mut self, head: u16) {
        match &mut self.ring {
            Ring::Split(ring) => ring.publish(&self.guest, head),
            Ring::Packed(_) => panic!("a packed queue has no available ring"),
        }
    }

    /// Tells the device where to interrupt next (with EVENT_IDX): at the next used entry.
    pub fn want_interrupt(&self) {
        match &self.ring {
            Ring::Split(ring) => ring.want_interrupt(&self.guest),
            Ring::Packed(ring) => ring.want_interrupt(&self.guest),
        }
    }

    /// Tells the device whether to interrupt at all (without EVENT_IDX).
    pub fn want_interrupts(&self, wanted: bool) {
        match &self.ring {
            Ring::Split(ring) => ring.want_interrupts(&self.guest, wanted),
            Ring::Packed(ring) => ring.want_interrupts(&self.guest, wanted),
        }
    }

    /// Whether the device wants to be told of what was added since the last call. If that is nothing, the driver has its
    /// reasons.
    pub fn device_wants_notification(&mut self) -> bool {
        // What was added must be there for the device to see before we look at what it wants.
        fence(Ordering::SeqCst);
        match &mut self.ring {
            Ring::Split(ring) => ring.device_wants_notification(&self.guest, self.event_idx),
            Ring::Packed(ring) => ring.device_wants_notification(&self.guest),
        }
    }

    /// Notifies the device if it wants that, as real drivers do.
    pub fn kick(&mut self) {
        if self.device_wants_notification() {
            self.notify.write(1).expect("notify the device");
        }
    }

    /// Takes the next used request, if there is one: its number, the number of bytes, and what was written to it.
    pub fn poll(&mut self) -> Option<(u16, u32, Vec<u8>)> {
        let (head, len) = match &mut self.ring {
            Ring::Split(ring) => ring.poll(&self.guest),
            Ring::Packed(ring) => ring.poll(&self.guest),
        }?;
        let index = self
            .pending
            .iter()
            .position(|pending| pending.head == head)
            .expect("a request we made");
        let mut bytes = Vec::new();
        for (address, room) in self.pending.remove(index).writable {
            bytes.extend(self.guest.read(address, room as usize));
        }
        Some((head, len, bytes))
    }

    /// Descriptors of the ring that are not free.
    pub fn taken(&self) -> usize {
        match &self.ring {
            Ring::Split(ring) => ring.taken(),
            Ring::Packed(ring) => ring.taken(),
        }
    }

    /// Requests that the device has not given back.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }
}

/// A descriptor's bytes; both forms have 16-bit words in the last two places.
fn descriptor(address: u64, len: u32, words: [u16; 2]) -> Vec<u8> {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(words.into_iter().flat_map(u16::to_le_bytes));
    bytes
}
