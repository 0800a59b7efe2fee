//! Block requests by io_uring: they are submitted in batches and completed by the host's kernel while the worker waits.
//!
//! The ring is made before the process is sandboxed and is restricted to the operations that a disk needs, because
//! seccomp filters do not see what a ring is asked to do. Files are not registered with it: that saves little, and the
//! kernel would keep them, locks included, for a while after the end.

use super::engine::{Call, Completion, DEPTH};
use super::file::HostFile;
use io_uring::register::Restriction;
use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The token of a cancellation, whose own end is of no interest.
const NO_CALL: u64 = u64::MAX;

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
            Restriction::sqe_op(opcode::AsyncCancel::CODE),
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

    /// Queues a call.
    ///
    /// # Safety
    ///
    /// Vectors and the memory they name must stay as they are until the call has completed.
    pub(super) unsafe fn push(&mut self, token: u64, file: &HostFile, call: Call<'_>) -> io::Result<()> {
        let entry = match call {
            Call::Transfer {
                write,
                iovecs,
                offset,
                durable,
            } => {
                let fd = Fd(file.fd_for(iovecs, offset));
                let count = iovecs.len() as u32;
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                match write {
                    true => opcode::Writev::new(fd, iovecs.as_ptr(), count)
                        .offset(offset)
                        .rw_flags(flags)
                        .build(),
                    false => opcode::Readv::new(fd, iovecs.as_ptr(), count)
                        .offset(offset)
                        .build(),
                }
            }
            Call::Flush => opcode::Fsync::new(Fd(file.fd()))
                .flags(FsyncFlags::DATASYNC)
                .build(),
            Call::Erase(erase, bytes) => opcode::Fallocate::new(Fd(file.fd()), bytes.end - bytes.start)
                .offset(bytes.start)
                .mode(erase.mode())
                .build(),
        };
        self.add(token, &entry)
    }

    fn add(&mut self, token: u64, entry: &squeue::Entry) -> io::Result<()> {
        let entry = entry.clone().user_data(token);
        // SAFETY: what the entry points to lives until completion; the callers' contracts say so.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        self.unsubmitted = true;
        // Cannot be full as long as no more than DEPTH requests are in flight.
        pushed.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))
    }

    /// Has calls end early, as far as the kernel can. Those that it has not begun do; others may go on.
    pub(super) fn cancel(&mut self, tokens: impl Iterator<Item = u64>) {
        for token in tokens {
            let entry = opcode::AsyncCancel::new(token).build();
            // What is not cancelled ends by itself, so nothing is lost when the ring takes no more.
            if self.add(NO_CALL, &entry).is_err() && self.submit().is_ok_and(|taken| taken) {
                let _ = self.add(NO_CALL, &entry);
            }
        }
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

    pub(super) fn completions(&mut self) -> Vec<Completion> {
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
