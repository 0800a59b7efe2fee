//! Block requests by plain system calls, for hosts where io_uring is missing or forbidden: a few threads for each disk take
//! calls from one list, so that a slow one does not hold up all others. The worker of a queue pushes calls and learns by an
//! event which have completed, as it does with a ring.
//!
//! A call that hangs keeps its thread, and what it needs, until the kernel lets go of it; nobody waits for these threads.

use super::engine::{Call, Completion};
use super::file::{Erase, HostFile};
use crate::virtio::worker::ThreadHook;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Threads of a disk: as many of its requests move at the same time.
const THREADS: usize = 4;

/// They only make system calls, with no more than a request's vectors on the heap.
const STACK_SIZE: usize = 64 * 1024;

/// The threads' name; tables of system calls know them by it.
const NAME: &str = "virtio-block-io";

/// The vectors of a transfer.
struct Vectors(*const libc::iovec, usize);

// SAFETY: whoever pushes a transfer promises that vectors and memory stay until it has completed; any thread may use them.
unsafe impl Send for Vectors {}

enum Work {
    Transfer {
        write: bool,
        vectors: Vectors,
        offset: u64,
        durable: bool,
    },
    Flush,
    Erase(Erase, Range<u64>),
}

/// A call on its way to a thread, and where its result goes.
struct Job {
    token: u64,
    file: Arc<HostFile>,
    work: Work,
    completed: Arc<Completed>,
}

impl Job {
    fn run(&self) -> io::Result<usize> {
        match &self.work {
            Work::Transfer {
                write,
                vectors,
                offset,
                durable,
            } => {
                // SAFETY: they stay as they are until the call has completed (see `Threads::push`).
                let vectors = unsafe { std::slice::from_raw_parts(vectors.0, vectors.1) };
                // SAFETY: the same.
                unsafe { self.file.transfer(*write, vectors, *offset, *durable) }
            }
            Work::Flush => self.file.flush().map(|()| 0),
            Work::Erase(erase, bytes) => self.file.erase(*erase, bytes).map(|()| 0),
        }
    }
}

/// What has completed for one queue.
struct Completed {
    list: Mutex<Vec<Completion>>,
    event: EventFd,
}

impl Completed {
    fn add(&self, completion: Completion) {
        lock(&self.list).push(completion);
        // Fails only when the counter is full, and then it is signalled already.
        let _ = self.event.write(1);
    }
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Job>,
    threads: usize,
    closed: bool,
}

/// What the threads share with those who give them work.
#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// There is a job, or the end.
    news: Condvar,
}

impl Shared {
    /// A thread's life.
    fn work(&self) {
        while let Some(job) = self.next() {
            let result = job.run();
            job.completed.add((job.token, result));
        }
    }

    fn next(&self) -> Option<Job> {
        let nothing = |inner: &mut Inner| inner.jobs.is_empty() && !inner.closed;
        let waited = self.news.wait_while(lock(&self.inner), nothing);
        waited.unwrap_or_else(PoisonError::into_inner).jobs.pop_front()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads of one disk; they end with it, as soon as they can.
#[derive(Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// Starts the threads unless they are there already.
    fn prepare(&self, hook: &ThreadHook) -> io::Result<()> {
        let mut inner = lock(&self.shared.inner);
        while inner.threads < THREADS {
            let number = inner.threads + 1;
            let (shared, hook) = (self.shared.clone(), hook.clone());
            let (ready, is_ready) = sync_channel(1);
            std::thread::Builder::new()
                .name(NAME.to_owned())
                .stack_size(STACK_SIZE)
                .spawn(move || {
                    let allowed = hook(&format!("{NAME}-{number}"));
                    let go_on = allowed.is_ok();
                    let _ = ready.send(allowed);
                    if go_on {
                        shared.work();
                    }
                })?;
            is_ready.recv().map_err(io::Error::other)??;
            inner.threads = number;
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.inner).closed = true;
        self.shared.news.notify_all();
    }
}

/// One queue's share of the threads.
pub(super) struct Threads {
    pool: Arc<Pool>,
    completed: Arc<Completed>,
    /// Calls that no thread has seen yet.
    pushed: Vec<Job>,
}

impl Threads {
    pub(super) fn new(pool: Arc<Pool>) -> io::Result<Self> {
        Ok(Self {
            pool,
            completed: Arc::new(Completed {
                list: Mutex::default(),
                event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            }),
            pushed: Vec::new(),
        })
    }

    pub(super) fn sibling(&self) -> io::Result<Self> {
        Self::new(self.pool.clone())
    }

    pub(super) fn prepare(&self, hook: &ThreadHook) -> io::Result<()> {
        self.pool.prepare(hook)
    }

    pub(super) fn completed_fd(&self) -> RawFd {
        self.completed.event.as_raw_fd()
    }

    /// Queues a call.
    ///
    /// # Safety
    ///
    /// Vectors and the memory they name must stay as they are until the call has completed.
    pub(super) unsafe fn push(&mut self, token: u64, file: &Arc<HostFile>, call: Call<'_>) -> io::Result<()> {
        let work = match call {
            Call::Transfer {
                write,
                iovecs,
                offset,
                durable,
            } => Work::Transfer {
                write,
                vectors: Vectors(iovecs.as_ptr(), iovecs.len()),
                offset,
                durable,
            },
            Call::Flush => Work::Flush,
            Call::Erase(erase, bytes) => Work::Erase(erase, bytes.clone()),
        };
        self.pushed.push(Job {
            token,
            file: file.clone(),
            work,
            completed: self.completed.clone(),
        });
        Ok(())
    }

    /// Gives the threads what was queued.
    pub(super) fn submit(&mut self) {
        let count = self.pushed.len();
        if count > 0 {
            lock(&self.pool.shared.inner).jobs.extend(self.pushed.drain(..));
            (0..count.min(THREADS)).for_each(|_| self.pool.shared.news.notify_one());
        }
    }

    /// Takes back the calls that no thread has begun.
    pub(super) fn cancel(&mut self) {
        self.submit();
        let mut inner = lock(&self.pool.shared.inner);
        inner.jobs.retain(|job| {
            let other = !Arc::ptr_eq(&job.completed, &self.completed);
            if !other {
                let cancelled = io::Error::from_raw_os_error(libc::ECANCELED);
                self.completed.add((job.token, Err(cancelled)));
            }
            other
        });
    }

    pub(super) fn completions(&mut self) -> Vec<Completion> {
        // Fails when it is not signalled, and then there is nothing to clear.
        let _ = self.completed.event.read();
        std::mem::take(&mut *lock(&self.completed.list))
    }
}

#[cfg(test)]
#[path = "threads_tests.rs"]
mod tests;
