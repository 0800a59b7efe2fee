//! Frames from the host to the guest.
//!
//! The kernel writes a frame straight into the driver's buffers when those that wait are large enough for the longest
//! one; otherwise it goes by way of a buffer of ours, and is dropped if it does not fit. Buffers taken from the queue and
//! not used yet stay here and are put back when the device pauses.

use super::filter::Filter;
use super::header::{BUFFER_COUNT_OFFSET, HEADER_LEN, MAX_FRAME};
use super::metrics::PairMetrics;
use super::tap::Tap;
use crate::memory::Ram;
use crate::virtio::queue::{Chain, Queue};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// The most pieces of memory that one system call takes, but one for what goes beyond.
const MAX_PIECES: usize = libc::UIO_MAXIOV as usize - 1;

/// What became of an attempt to receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A frame of this length was delivered; there may be more.
    Frame(usize),
    /// A frame was dropped, or nothing happened for the moment; there may be more.
    Nothing,
    /// The host has no more frames.
    NoFrames,
    /// The driver has no more buffers.
    NoBuffers,
}

/// A piece of guest memory in this process, as the kernel takes it.
#[repr(transparent)]
struct Piece(libc::iovec);

// SAFETY: it is an address and a length; who uses it sees to it that the memory is mapped, in whatever thread.
unsafe impl Send for Piece {}

/// Buffers of the driver that wait for frames, in their order, and where they are in this process.
#[derive(Default)]
struct Waiting {
    /// Each with the number of its pieces.
    chains: VecDeque<(Chain, usize)>,
    /// Of all chains. They are mapped for as long as `ram` lives.
    pieces: VecDeque<Piece>,
    /// Bytes in the chains.
    room: u64,
    /// The memory map that the pieces were found in.
    ram: Option<Arc<Ram>>,
    /// A chain names memory that is not there; no frame goes straight into any of them.
    misplaced: bool,
}

impl Waiting {
    fn push(&mut self, chain: Chain, ram: &Ram) {
        let before = self.pieces.len();
        let pieces = &mut self.pieces;
        let found = chain
            .writable
            .add_iovecs(ram, u64::MAX, |iovec| pieces.push_back(Piece(iovec)));
        self.misplaced |= found.is_err();
        self.room = self.room.saturating_add(chain.writable.len());
        self.chains.push_back((chain, self.pieces.len() - before));
    }

    fn pop(&mut self) -> Option<Chain> {
        let (chain, pieces) = self.chains.pop_front()?;
        self.pieces.drain(..pieces.min(self.pieces.len()));
        self.room = self.room.saturating_sub(chain.writable.len());
        Some(chain)
    }

    /// Finds the pieces again if the guest's memory map has changed.
    fn follow(&mut self, ram: &Arc<Ram>) {
        if self.ram.as_ref().is_some_and(|old| Arc::ptr_eq(old, ram)) {
            return;
        }
        let chains = std::mem::take(self).chains;
        chains.into_iter().for_each(|(chain, _)| self.push(chain, ram));
        self.ram = Some(ram.clone());
    }
}

/// The receiving half of a pair of queues.
#[derive(Default)]
pub(super) struct Receiver {
    /// Whether a frame may use several buffers.
    pub(super) mergeable: bool,
    /// The longest frame with header.
    pub(super) max_frame: usize,
    waiting: Waiting,
    used: Vec<(u16, u32)>,
    bounce: Vec<u8>,
}

impl Receiver {
    /// Puts all buffers back into the queue.
    pub(super) fn put_back(&mut self, queue: Option<&mut Queue>) {
        if let Some(queue) = queue {
            let waiting = self.waiting.chains.iter().rev();
            waiting.for_each(|(chain, _)| queue.undo_pop(chain.head));
        }
        self.forget();
    }

    /// Forgets the buffers of a driver that is gone.
    pub(super) fn forget(&mut self) {
        self.waiting = Waiting::default();
        // 64 KiB that are not needed while the device rests.
        self.bounce = Vec::new();
    }

    fn refill(&mut self, queue: &mut Queue, ram: &Ram) {
        let enough = |receiver: &Self| match receiver.mergeable {
            true => {
                let waiting = &receiver.waiting;
                waiting.room >= receiver.max_frame as u64 || waiting.pieces.len() > MAX_PIECES
            }
            false => !receiver.waiting.chains.is_empty(),
        };
        while !enough(self)
            && let Some(chain) = queue.pop()
        {
            self.waiting.push(chain, ram);
        }
    }

    /// Receives one frame, unless the filter says that the driver does not want it.
    pub(super) fn receive(
        &mut self,
        tap: &Tap,
        queue: &mut Queue,
        ram: &Arc<Ram>,
        filter: &Filter,
        metrics: &PairMetrics,
    ) -> Outcome {
        self.waiting.follow(ram);
        self.refill(queue, ram);
        if self.waiting.chains.is_empty() {
            return Outcome::NoBuffers;
        }
        let waiting = &self.waiting;
        let direct =
            waiting.room >= self.max_frame as u64 && !waiting.misplaced && waiting.pieces.len() <= MAX_PIECES;
        let received = match direct {
            true => self.receive_direct(tap),
            false => self.receive_bounced(tap),
        };
        let len = match received {
            Ok(0) => return Outcome::NoFrames,
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::NoFrames,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Outcome::Nothing,
            Err(error) => {
                tracing::debug!(%error, "network device cannot receive");
                metrics.receive_drops.increment();
                return Outcome::NoFrames;
            }
        };
        if len < HEADER_LEN || len as u64 > self.waiting.room {
            metrics.receive_drops.increment();
            return Outcome::Nothing;
        }
        if !filter.promiscuous && !self.destination(direct, ram).is_some_and(|to| filter.accepts(to)) {
            metrics.receive_filtered.increment();
            return Outcome::Nothing;
        }
        if !direct && !self.copy(len, ram) {
            queue.fail("receive buffer outside of guest memory");
            return Outcome::Nothing;
        }
        self.deliver(len, queue, ram);
        metrics.received_frames.increment();
        metrics.received_bytes.add((len - HEADER_LEN) as u64);
        Outcome::Frame(len)
    }

    /// Receives one frame for nobody.
    pub(super) fn discard(&mut self, tap: &Tap, metrics: &PairMetrics) -> Outcome {
        match self.receive_bounced(tap) {
            Ok(len) if len > 0 => {
                metrics.receive_drops.increment();
                Outcome::Nothing
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Outcome::Nothing,
            _ => Outcome::NoFrames,
        }
    }

    fn receive_direct(&mut self, tap: &Tap) -> io::Result<usize> {
        // A frame that is longer than the room shows itself here, instead of being cut off.
        let mut beyond = [0_u8; 1];
        let pieces = &mut self.waiting.pieces;
        pieces.push_back(Piece(libc::iovec {
            iov_base: beyond.as_mut_ptr().cast(),
            iov_len: beyond.len(),
        }));
        let vector: &[Piece] = pieces.make_contiguous();
        // SAFETY: `Piece` is laid out like what it wraps.
        let vector =
            unsafe { std::slice::from_raw_parts(vector.as_ptr().cast::<libc::iovec>(), vector.len()) };
        // SAFETY: `waiting.ram` keeps the pieces mapped, and `beyond` is ours.
        let result = unsafe { tap.receive(vector) };
        pieces.pop_back();
        result
    }

    fn receive_bounced(&mut self, tap: &Tap) -> io::Result<usize> {
        self.bounce.resize(MAX_FRAME, 0);
        let iovec = libc::iovec {
            iov_base: self.bounce.as_mut_ptr().cast(),
            iov_len: self.bounce.len(),
        };
        // SAFETY: the vector names our own buffer.
        unsafe { tap.receive(&[iovec]) }
    }

    /// The first bytes of the frame that was just received.
    fn destination(&self, direct: bool, ram: &Ram) -> Option<[u8; 6]> {
        let mut address = [0; 6];
        if !direct {
            let bytes = self.bounce.get(HEADER_LEN..)?;
            return bytes.first_chunk().copied();
        }
        let mut offset = HEADER_LEN as u64;
        // Buffers shorter than the header end in `deliver`.
        for (chain, _) in &self.waiting.chains {
            match offset.checked_sub(chain.writable.len()) {
                Some(rest) => offset = rest,
                None => {
                    chain.writable.read_at(ram, offset, &mut address).ok()?;
                    return Some(address);
                }
            }
        }
        None
    }

    /// Copies a frame from our buffer to the driver's. They have room for it.
    fn copy(&self, len: usize, ram: &Ram) -> bool {
        let mut frame = self.bounce.get(..len).unwrap_or_default();
        for (chain, _) in &self.waiting.chains {
            let here = chain.writable.len().min(frame.len() as u64) as usize;
            let (now, rest) = frame.split_at(here);
            if chain.writable.write_at(ram, 0, now).is_err() {
                return false;
            }
            frame = rest;
            if frame.is_empty() {
                break;
            }
        }
        true
    }

    /// Gives the buffers that hold a frame of `len` bytes to the driver.
    fn deliver(&mut self, len: usize, queue: &mut Queue, ram: &Ram) {
        let mut left = len as u64;
        let mut count: u16 = 0;
        for (chain, _) in &self.waiting.chains {
            count += 1;
            left = left.saturating_sub(chain.writable.len());
            if left == 0 {
                break;
            }
        }
        // §5.1.6.4: the device sets the number of buffers, which is one without VIRTIO_NET_F_MRG_RXBUF.
        let written = self.waiting.chains.front().map(|(chain, _)| {
            chain
                .writable
                .write_at(ram, BUFFER_COUNT_OFFSET as u64, &count.to_le_bytes())
        });
        if !matches!(written, Some(Ok(()))) {
            // A first buffer shorter than the header breaks the rules (§5.1.6.3.1).
            return queue.fail("receive buffer shorter than its header");
        }
        let mut left = len as u64;
        self.used.clear();
        for _ in 0..count {
            let Some(chain) = self.waiting.pop() else {
                break;
            };
            let here = chain.writable.len().min(left);
            left -= here;
            // A frame has fewer than 2³² bytes.
            self.used.push((chain.head, here as u32));
        }
        // A driver that saw the first buffer without the others would drop the frame.
        queue.add_used_together(&self.used);
    }
}
