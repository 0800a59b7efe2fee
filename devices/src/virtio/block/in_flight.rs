//! Requests that are being carried out, and where they are kept until then.

use super::file::Erase;
use super::qcow2::Allocation;
use crate::memory::Ram;
use crate::virtio::buffer::{Buffer, IoVecs};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What a request in flight does.
#[allow(clippy::large_enum_variant, reason = "nearly all are transfers")]
pub(super) enum Work {
    /// Moves bytes between disk and guest memory.
    Transfer(Transfer),
    /// Makes writes durable.
    Flush,
    /// Erases bytes.
    Erase(Erase, Range<u64>),
    /// Erases bytes step by step, where the file system cannot: those to go, and the zeroes of this step.
    ByHand(Erase, Range<u64>, IoVecs),
    /// None: the serial number, of this many bytes, has been written, or the request was not one.
    Id(u32),
}

/// Bytes on their way, one piece after the other: a piece is what lies together in one file.
pub(super) struct Transfer {
    /// To the disk.
    pub(super) write: bool,
    /// Where the rest is in guest memory.
    pub(super) data: Buffer,
    /// Where the rest is on the disk.
    pub(super) offset: u64,
    /// Bytes in all.
    pub(super) len: u64,
    /// What moves at present.
    pub(super) piece: Option<Piece>,
}

/// Bytes that lie together in one file.
pub(super) struct Piece {
    /// The file's number.
    pub(super) file: usize,
    /// From where on; moves along with what is done.
    pub(super) offset: u64,
    /// Bytes to go.
    pub(super) left: u64,
    /// The same in this process' memory.
    pub(super) iovecs: IoVecs,
    /// New clusters of an image.
    pub(super) allocation: Option<Allocation>,
}

impl Transfer {
    /// Where the rest is on the disk.
    pub(super) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.data.len()
    }
}

/// A request that the driver waits for.
pub(super) struct InFlight {
    /// Which queue it came from.
    pub(super) queue: usize,
    /// Its chain.
    pub(super) head: u16,
    /// Where the status goes.
    pub(super) status: Buffer,
    /// Keeps the memory that `work` points into mapped.
    pub(super) ram: Arc<Ram>,
    /// What it does.
    pub(super) work: Work,
    /// When it was taken from the queue.
    pub(super) began: Instant,
}

// SAFETY: the raw pointers in the vectors point into guest memory that `ram` keeps mapped, which any thread may access.
unsafe impl Send for InFlight {}

/// Places for requests, which stay where they are. Those whose numbers a ring has as tokens are in flight, the others
/// wait for one of them.
pub(super) struct Slots {
    /// As many as were needed so far; there is room for all.
    slots: Vec<Option<InFlight>>,
    free: Vec<u32>,
    waiting: VecDeque<InFlight>,
    most: usize,
}

impl Slots {
    pub(super) fn new(most: u32) -> Self {
        Self {
            slots: Vec::with_capacity(most as usize),
            free: Vec::new(),
            waiting: VecDeque::new(),
            most: most as usize,
        }
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no further request may be taken from a queue.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight() + self.waiting.len() >= self.most
    }

    /// Whether nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.in_flight() == 0
    }

    /// Keeps a request in flight. It comes back if there is no place.
    pub(super) fn insert(&mut self, request: InFlight) -> Result<u64, Box<InFlight>> {
        let index = match self.free.pop() {
            Some(index) => index,
            // The slots must not move, so no more of them than were reserved.
            None if self.slots.len() < self.most => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
            None => return Err(Box::new(request)),
        };
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                *slot = Some(request);
                Ok(u64::from(index))
            }
            None => Err(Box::new(request)),
        }
    }

    /// The numbers of all that are in flight.
    pub(super) fn tokens(&self) -> impl Iterator<Item = u64> {
        let taken = self.slots.iter().zip(0..).filter(|(slot, _)| slot.is_some());
        taken.map(|(_, token)| token)
    }

    pub(super) fn get(&self, token: u64) -> Option<&InFlight> {
        self.slots.get(usize::try_from(token).ok()?)?.as_ref()
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<InFlight> {
        let index = usize::try_from(token).ok()?;
        let request = self.slots.get_mut(index)?.take()?;
        // Below the number of slots, which is 32-bit.
        self.free.push(index as u32);
        Some(request)
    }

    /// Whether data of this range of the disk is on its way.
    pub(super) fn touches(&self, bytes: &Range<u64>) -> bool {
        self.slots.iter().flatten().any(|request| match &request.work {
            Work::Transfer(transfer) => {
                let other = transfer.range();
                other.start < bytes.end && bytes.start < other.end
            }
            _ => false,
        })
    }

    /// Keeps a request until others are done.
    pub(super) fn wait(&mut self, request: InFlight) {
        self.waiting.push_back(request);
    }

    /// The requests that wait, to be tried again.
    pub(super) fn take_waiting(&mut self) -> VecDeque<InFlight> {
        std::mem::take(&mut self.waiting)
    }
}
