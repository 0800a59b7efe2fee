//! Requests that are being carried out, and where they are kept until then.

use super::disk::Erase;
use super::request::Status;
use crate::memory::Ram;
use crate::virtio::buffer::{Buffer, IoVecs};
use std::ops::Range;
use std::sync::Arc;

/// What a request in flight does.
pub(super) enum Work {
    /// Moves bytes between disk and guest memory.
    Transfer {
        /// To the disk.
        write: bool,
        /// Where in this process' memory.
        iovecs: IoVecs,
        /// Vectors before this one are done.
        first: usize,
        /// Where on the disk the request began.
        offset: u64,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        len: u64,
    },
    /// Makes writes durable.
    Flush,
    /// Erases bytes.
    Erase(Erase, Range<u64>),
    /// Needs no work.
    Other,
}

impl Work {
    /// Notes that `count` more bytes are done. Returns how the request ended, or nothing if bytes are left.
    pub(super) fn advance(&mut self, count: usize) -> Option<Result<u32, Status>> {
        let Work::Transfer {
            write,
            iovecs,
            first,
            done,
            len,
            ..
        } = self
        else {
            return Some(Ok(0));
        };
        if count == 0 {
            // The file has become shorter than the disk.
            return Some(Err(Status::IoError));
        }
        *done += count as u64;
        if *done >= *len {
            // A chain is shorter than 4 GiB (§2.7.5.2).
            let written = if *write {
                0
            } else {
                u32::try_from(*len).unwrap_or(u32::MAX)
            };
            return Some(Ok(written));
        }
        let mut left = count;
        while let Some(vector) = iovecs.get_mut(*first) {
            let here = left.min(vector.iov_len);
            left -= here;
            vector.iov_len -= here;
            vector.iov_base = vector.iov_base.wrapping_byte_add(here);
            if vector.iov_len > 0 {
                break;
            }
            *first += 1;
        }
        None
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
}

// SAFETY: the raw pointers in the vectors point into guest memory that `ram` keeps mapped, which any thread may access.
unsafe impl Send for InFlight {}

/// A fixed number of places for requests; their numbers are the ring's tokens.
pub(super) struct Slots {
    slots: Vec<Option<InFlight>>,
    free: Vec<u32>,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self {
            slots: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Keeps a request. It comes back if there is no place.
    #[allow(clippy::result_large_err, reason = "it moves on as it came")]
    pub(super) fn insert(&mut self, request: InFlight) -> Result<u64, InFlight> {
        let Some(index) = self.free.pop() else {
            return Err(request);
        };
        match self.slots.get_mut(index as usize) {
            Some(slot) => {
                *slot = Some(request);
                Ok(u64::from(index))
            }
            None => Err(request),
        }
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
}
