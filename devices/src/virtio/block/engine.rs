//! How requests reach the host's kernel: by a ring ([`uring`](super::uring)) or by threads that make one system call after
//! the other ([`threads`](super::threads)). Both take [`Call`]s, carry them out in any order, and tell by an event which
//! have completed.

use super::config::{BlockError, EngineKind};
use super::file::{Erase, HostFile};
use super::threads::{Pool, Threads};
use super::uring::Uring;
use crate::virtio::worker::ThreadHook;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Requests in flight at once.
pub(super) const DEPTH: u32 = 128;

/// What is asked of the kernel.
pub(super) enum Call<'a> {
    /// Bytes move between the file and the memory that the vectors name.
    Transfer {
        /// To the file.
        write: bool,
        /// Memory.
        iovecs: &'a [libc::iovec],
        /// Where in the file.
        offset: u64,
        /// Whether what is written has to be durable.
        durable: bool,
    },
    /// What has been written becomes durable.
    Flush,
    /// A range is erased.
    Erase(Erase, &'a Range<u64>),
}

/// The token of a call, and what its system call returned.
pub(super) type Completion = (u64, io::Result<usize>);

/// One queue's way to the kernel.
pub(super) enum Engine {
    /// A ring of its own.
    Uring(Box<Uring>),
    /// Threads that it shares with the disk's other queues.
    Threads(Threads),
}

impl Engine {
    /// Gets what the user wants, or what the host has.
    pub(super) fn new(kind: EngineKind) -> Result<Self, BlockError> {
        if kind != EngineKind::Threads {
            match Uring::new() {
                Ok(ring) => return Ok(Self::Uring(Box::new(ring))),
                Err(error) if kind == EngineKind::IoUring => return Err(BlockError::Uring(error)),
                Err(error) => tracing::debug!(%error, "no io_uring, disk uses threads"),
            }
        }
        let threads = Threads::new(Arc::new(Pool::default()));
        threads.map(Self::Threads).map_err(BlockError::Event)
    }

    /// The same for another queue of the disk.
    pub(super) fn sibling(&self, kind: EngineKind) -> Result<Self, BlockError> {
        match self {
            Self::Uring(_) => Self::new(kind),
            Self::Threads(threads) => threads.sibling().map(Self::Threads).map_err(BlockError::Event),
        }
    }

    /// Starts what threads there are. Not for a worker.
    pub(super) fn prepare(&self, hook: &ThreadHook) -> io::Result<()> {
        match self {
            Self::Uring(_) => Ok(()),
            Self::Threads(threads) => threads.prepare(hook),
        }
    }

    /// Readable when calls have completed.
    pub(super) fn completed_fd(&self) -> RawFd {
        match self {
            Self::Uring(ring) => ring.completed_fd(),
            Self::Threads(threads) => threads.completed_fd(),
        }
    }

    /// Queues a call. No more than [`DEPTH`] may be in flight.
    ///
    /// # Safety
    ///
    /// Vectors and the memory they name must stay as they are until the call has completed.
    pub(super) unsafe fn push(&mut self, token: u64, file: &Arc<HostFile>, call: Call<'_>) -> io::Result<()> {
        match self {
            // SAFETY: the caller's promise.
            Self::Uring(ring) => unsafe { ring.push(token, file, call) },
            // SAFETY: the caller's promise.
            Self::Threads(threads) => unsafe { threads.push(token, file, call) },
        }
    }

    /// Has begun what was queued. Returns false if the kernel took nothing for now, and has to be asked again.
    pub(super) fn submit(&mut self) -> io::Result<bool> {
        match self {
            Self::Uring(ring) => ring.submit(),
            Self::Threads(threads) => {
                threads.submit();
                Ok(true)
            }
        }
    }

    /// Has calls end early, as far as that is possible. They complete all the same.
    pub(super) fn cancel(&mut self, tokens: impl Iterator<Item = u64>) {
        match self {
            Self::Uring(ring) => ring.cancel(tokens),
            Self::Threads(threads) => threads.cancel(),
        }
    }

    /// The calls that have completed since it was last asked.
    pub(super) fn completions(&mut self) -> Vec<Completion> {
        match self {
            Self::Uring(ring) => ring.completions(),
            Self::Threads(threads) => threads.completions(),
        }
    }
}
