//! Frames from the host to the guest.
//!
//! The kernel writes a frame straight into the driver's buffers when those that wait are large enough for the longest
//! one; otherwise it goes by way of a buffer of ours, and is dropped if it does not fit. Buffers taken from the queue and
//! not used yet stay here and are put back when the device pauses.

use super::NetMetrics;
use super::header::{BUFFER_COUNT_OFFSET, HEADER_LEN, MAX_FRAME};
use super::tap::Tap;
use crate::memory::Ram;
use crate::virtio::queue::{Chain, Queue};
use std::collections::VecDeque;
use std::io;

/// What became of an attempt to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A frame of this length was delivered or dropped; there may be more.
    Frame(usize),
    /// The host has no more frames.
    NoFrames,
    /// The driver has no more buffers.
    NoBuffers,
}

/// The receiving half of a network device.
#[derive(Default)]
pub(super) struct Receiver {
    /// Whether a frame may use several buffers.
    pub(super) mergeable: bool,
    /// The longest frame with header.
    pub(super) max_frame: usize,
    waiting: VecDeque<Chain>,
    /// Bytes in the waiting buffers.
    room: u64,
    bounce: Vec<u8>,
}

impl Receiver {
    /// Puts all buffers back into the queue.
    pub(super) fn put_back(&mut self, queue: Option<&mut Queue>) {
        if let Some(queue) = queue {
            (0..self.waiting.len()).for_each(|_| queue.undo_pop());
        }
        self.forget();
    }

    /// Forgets the buffers of a driver that is gone.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
        self.room = 0;
        // 64 KiB that are not needed while the device rests.
        self.bounce = Vec::new();
    }

    fn refill(&mut self, queue: &mut Queue) {
        let enough = |receiver: &Self| match receiver.mergeable {
            true => receiver.room >= receiver.max_frame as u64,
            false => !receiver.waiting.is_empty(),
        };
        while !enough(self)
            && let Some(chain) = queue.pop()
        {
            self.room = self.room.saturating_add(chain.writable.len());
            self.waiting.push_back(chain);
        }
    }

    /// Receives one frame.
    pub(super) fn receive(
        &mut self,
        tap: &Tap,
        queue: &mut Queue,
        ram: &Ram,
        metrics: &NetMetrics,
    ) -> Outcome {
        self.refill(queue);
        if self.waiting.is_empty() {
            return Outcome::NoBuffers;
        }
        let received = match self.room >= self.max_frame as u64 {
            true => self.receive_direct(tap, ram),
            false => self.receive_bounced(tap),
        };
        let len = match &received {
            Ok(Received::Direct(len) | Received::Bounced(len)) => *len,
            Err(_) => 0,
        };
        match received {
            Ok(Received::Direct(len)) if len >= HEADER_LEN => self.deliver(len, queue, ram, metrics),
            Ok(Received::Bounced(len)) if len >= HEADER_LEN => self.deliver_bounced(len, queue, ram, metrics),
            Ok(Received::Direct(0) | Received::Bounced(0)) => return Outcome::NoFrames,
            Ok(_) => metrics.receive_drops.increment(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::NoFrames,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::debug!(%error, "network device cannot receive");
                metrics.receive_drops.increment();
                return Outcome::NoFrames;
            }
        }
        Outcome::Frame(len)
    }

    fn receive_direct(&mut self, tap: &Tap, ram: &Ram) -> io::Result<Received> {
        let mut iovecs = Vec::new();
        for chain in &self.waiting {
            match chain.writable.iovecs(ram, chain.writable.len()) {
                Ok(mut more) => iovecs.append(&mut more),
                // Not our frame's fault: take it by the other way, where the bad buffer costs the driver this frame.
                Err(_) => return self.receive_bounced(tap),
            }
            if !self.mergeable {
                break;
            }
        }
        if iovecs.len() > libc::UIO_MAXIOV as usize {
            return self.receive_bounced(tap);
        }
        // SAFETY: `ram` keeps the memory mapped during the call.
        unsafe { tap.receive(&iovecs) }.map(Received::Direct)
    }

    fn receive_bounced(&mut self, tap: &Tap) -> io::Result<Received> {
        self.bounce.resize(MAX_FRAME, 0);
        let iovec = libc::iovec {
            iov_base: self.bounce.as_mut_ptr().cast(),
            iov_len: self.bounce.len(),
        };
        // SAFETY: the vector names our own buffer.
        unsafe { tap.receive(&[iovec]) }.map(Received::Bounced)
    }

    /// Copies a frame from our buffer and delivers it.
    fn deliver_bounced(&mut self, len: usize, queue: &mut Queue, ram: &Ram, metrics: &NetMetrics) {
        let room = match self.mergeable {
            true => self.room,
            false => self.waiting.front().map_or(0, |chain| chain.writable.len()),
        };
        let mut frame = self.bounce.get(..len).unwrap_or_default();
        if len as u64 > room {
            return metrics.receive_drops.increment();
        }
        for chain in &self.waiting {
            let here = chain.writable.len().min(frame.len() as u64) as usize;
            let (now, rest) = frame.split_at(here);
            // The chain's own cursor stays at the start for `deliver`.
            if chain.writable.clone().write(ram, now).is_err() {
                return queue.fail("receive buffer outside of guest memory");
            }
            frame = rest;
            if frame.is_empty() {
                break;
            }
        }
        self.deliver(len, queue, ram, metrics);
    }

    /// Gives the buffers that hold a frame of `len` bytes to the driver.
    fn deliver(&mut self, len: usize, queue: &mut Queue, ram: &Ram, metrics: &NetMetrics) {
        let mut left = len as u64;
        let mut count: u16 = 0;
        for chain in &self.waiting {
            count += 1;
            left = left.saturating_sub(chain.writable.len());
            if left == 0 {
                break;
            }
        }
        // §5.1.6.4.1: the device sets the number of buffers, which is one without VIRTIO_NET_F_MRG_RXBUF.
        let written = self.waiting.front().map(|chain| {
            let mut header = chain.writable.clone();
            header
                .skip(BUFFER_COUNT_OFFSET)
                .and_then(|()| header.write(ram, &count.to_le_bytes()))
        });
        if !matches!(written, Some(Ok(()))) {
            // A first buffer shorter than the header breaks the rules (§5.1.6.3.1).
            return queue.fail("receive buffer shorter than its header");
        }
        let mut left = len as u64;
        for _ in 0..count {
            let Some(chain) = self.waiting.pop_front() else {
                break;
            };
            let size = chain.writable.len();
            let here = size.min(left);
            self.room = self.room.saturating_sub(size);
            left -= here;
            // A frame has fewer than 2³² bytes.
            queue.add_used(chain.head, here as u32);
        }
        metrics.received_frames.increment();
        metrics.received_bytes.add((len - HEADER_LEN) as u64);
    }
}

enum Received {
    /// Into the driver's buffers.
    Direct(usize),
    /// Into ours.
    Bounced(usize),
}
