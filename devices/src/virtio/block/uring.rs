//! Block requests by io_uring: they are submitted in batches and completed by the host's kernel while the worker waits.
//!
//! The ring is made before the process is sandboxed and is restricted to the operations that a disk needs, because
//! seccomp filters do not see what a ring is asked to do. Files are not registered with it: that saves little, and the
//! kernel would keep them, locks included, for a while after the end.

use super::file::Erase;
use io_uring::register::Restriction;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Requests in flight at once.
pub(super) const DEPTH: u32 = 128;

/// Threads of the kernel for requests that would block (flushes, reads of what is not cached), of each of its two kinds.
const THREADS_MAX: u32 = 8;

/// A ring, and the descriptor that says when something has completed.
pub(super) struct Uring {
    ring: IoUring,
    completed: EventFd,
    /// Pushed but not taken by the kernel yet.
    unsubmitted: bool,
}

impl Uring {
    /// Makes a ring. Fails where io_uring is missing or forbidden.
    pub(super) fn new() -> io::Result<Self> {
        let ring = Self::build()?;
        let completed = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let submitter = ring.submitter();
        submitter.register_eventfd(completed.as_raw_fd())?;
        // Only a bound, so it is no harm if the kernel does not know it.
        let _ = submitter.register_iowq_max_workers(&mut [THREADS_MAX; 2]);
        let mut allowed = [
            Restriction::sqe_op(opcode::Readv::CODE),
            Restriction::sqe_op(opcode::Writev::CODE),
            Restriction::sqe_op(opcode::Fsync::CODE),
            Restriction::sqe_op(opcode::Fallocate::CODE),
        ];
        submitter.register_restrictions(&mut allowed)?;
        submitter.register_enable_rings()?;
        Ok(Self {
            ring,
            completed,
            unsubmitted: false,
        })
    }

    fn build() -> io::Result<IoUring> {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_r_disabled();
        // Spares the worker an interruption for each completion; kernels before 5.19 do not know it. The ring
        // outlives the worker's thread (pause, reset), so it cannot be bound to one.
        let mut cooperative = builder.clone();
        cooperative.setup_coop_taskrun();
        cooperative.build(DEPTH).or_else(|_| builder.build(DEPTH))
    }

    /// Readable when requests have completed.
    pub(super) fn completed_fd(&self) -> RawFd {
        self.completed.as_raw_fd()
    }

    /// Queues a read or write.
    ///
    /// # Safety
    ///
    /// `iovecs` and the memory they name must stay as they are until the request has completed.
    pub(super) unsafe fn push_transfer(
        &mut self,
        token: u64,
        fd: RawFd,
        write: bool,
        iovecs: &[libc::iovec],
        offset: u64,
        durable: bool,
    ) -> io::Result<()> {
        let count = iovecs.len() as u32;
        let entry = match write {
            true => {
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                opcode::Writev::new(Fd(fd), iovecs.as_ptr(), count)
                    .offset(offset)
                    .rw_flags(flags)
                    .build()
            }
            false => opcode::Readv::new(Fd(fd), iovecs.as_ptr(), count)
                .offset(offset)
                .build(),
        };
        self.push(token, entry)
    }

    /// Queues a flush.
    pub(super) fn push_flush(&mut self, token: u64, fd: RawFd) -> io::Result<()> {
        self.push(
            token,
            opcode::Fsync::new(Fd(fd)).flags(FsyncFlags::DATASYNC).build(),
        )
    }

    /// Queues an erasure.
    pub(super) fn push_erase(
        &mut self,
        token: u64,
        fd: RawFd,
        erase: Erase,
        bytes: &Range<u64>,
    ) -> io::Result<()> {
        let len = bytes.end - bytes.start;
        let entry = opcode::Fallocate::new(Fd(fd), len)
            .offset(bytes.start)
            .mode(erase.mode())
            .build();
        self.push(token, entry)
    }

    fn push(&mut self, token: u64, entry: squeue::Entry) -> io::Result<()> {
        let entry = entry.user_data(token);
        // SAFETY: what the entry points to lives until completion; the callers' contracts say so.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        self.unsubmitted = true;
        // Cannot be full as long as no more than DEPTH requests are in flight.
        pushed.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))
    }

    /// Gives the kernel what was queued. Returns false if it took nothing for now, and has to be asked again.
    pub(super) fn submit(&mut self) -> io::Result<bool> {
        if !self.unsubmitted {
            return Ok(true);
        }
        match self.ring.submit() {
            Ok(_) => {
                self.unsubmitted = !self.ring.submission().is_empty();
                Ok(!self.unsubmitted)
            }
            Err(error) if is_temporary(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until at least one request has completed.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        match self.ring.submit_and_wait(1) {
            Ok(_) => Ok(()),
            Err(error) if is_temporary(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The requests that have completed since the last call: their tokens and results as of a system call.
    pub(super) fn completions(&mut self) -> Vec<(u64, io::Result<usize>)> {
        // Fails when it is not signalled, and then there is nothing to clear.
        let _ = self.completed.read();
        self.ring
            .completion()
            .map(|entry| {
                let result = entry.result();
                let result =
                    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.wrapping_neg()));
                (entry.user_data(), result)
            })
            .collect()
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::EBUSY | libc::EINTR)
    )
}
