//! A worker's thread and its event loop.

use super::{Backend, Interrupter, Io, ThreadHook};
use crate::virtio::queue::Queue;
use crate::virtio::update::Mailbox;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::epoll::{ControlOperation, EpollEvent, EventSet};

/// Workers keep their data on the heap, so a small stack does, and thousands of virtual machines share a host.
const STACK_SIZE: usize = 256 * 1024;

/// How long a worker may wait for someone else when it shall stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Events taken from the kernel at once.
const EVENTS: usize = 32;

/// Tokens of the loop's own descriptors; those of the backend are below.
const TOKEN_MAILBOX: u64 = u64::MAX;
const TOKEN_QUEUES: u64 = u64::MAX - 0x1_0000;

/// A backend together with what it works with.
pub(super) struct Runner<B> {
    pub(super) backend: B,
    pub(super) io: Io,
}

/// A thread that has a runner.
pub(super) struct Worker<B> {
    thread: JoinHandle<Runner<B>>,
    pub(super) mailbox: Arc<Mailbox>,
    interrupter: Option<Interrupter>,
}

impl<B: Backend> Runner<B> {
    /// Starts the thread. The runner comes back if that fails.
    pub(super) fn spawn(self, name: String, hook: ThreadHook) -> Result<Worker<B>, (io::Error, Self)> {
        let mailbox = match self.mailbox() {
            Ok(mailbox) => Arc::new(mailbox),
            Err(error) => return Err((error, self)),
        };
        let interrupter = self.backend.interrupter();
        // The runner travels through a slot so that it is not lost with the closure when no thread can be had.
        let slot = Arc::new(Mutex::new(Some(self)));
        let (inner, read) = (slot.clone(), mailbox.clone());
        let builder = std::thread::Builder::new()
            .name(name.clone())
            .stack_size(STACK_SIZE);
        let spawned = builder.spawn(move || {
            let taken = inner.lock().unwrap_or_else(PoisonError::into_inner).take();
            #[allow(
                clippy::expect_used,
                reason = "filled above, and taken nowhere else once the thread runs"
            )]
            let mut runner = taken.expect("the slot holds the runner");
            match hook(&name) {
                Ok(()) => runner.run(&read),
                Err(error) => {
                    tracing::error!(thread = name, %error, "worker thread could not be set up");
                    runner.io.interrupt.needs_reset();
                }
            }
            read.close();
            runner
        });
        match spawned {
            Ok(thread) => Ok(Worker {
                thread,
                mailbox,
                interrupter,
            }),
            Err(error) => {
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                #[allow(clippy::expect_used, reason = "without a thread nobody took it")]
                let runner = slot.take().expect("the slot holds the runner");
                Err((error, runner))
            }
        }
    }

    /// Makes the worker's mailbox and registers all that the loop waits for.
    fn mailbox(&self) -> io::Result<Mailbox> {
        let mailbox = Mailbox::new()?;
        let add = |fd, events, token| {
            let event = EpollEvent::new(events, token);
            self.io.epoll.ctl(ControlOperation::Add, fd, event)
        };
        add(mailbox.event().as_raw_fd(), EventSet::IN, TOKEN_MAILBOX)?;
        for (queue, index) in self.io.queues.iter().zip(0..) {
            if !self.serves(queue) {
                continue;
            }
            // The edge suffices, as each notification is one, and saves reading the counter each time.
            let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
            add(queue.notify().as_raw_fd(), events, TOKEN_QUEUES + index)?;
        }
        Ok(mailbox)
    }

    /// Whether the queue is this thread's business.
    fn serves(&self, queue: &Queue) -> bool {
        self.backend.serves(queue.index(), self.io.features)
    }

    fn run(&mut self, mailbox: &Mailbox) {
        if let Err(error) = self.backend.start(&mut self.io) {
            tracing::error!(%error, "device could not be started");
            self.io.interrupt.needs_reset();
            return;
        }
        for queue in 0..self.io.queues.len() {
            if self.io.queues.get(queue).is_some_and(|queue| self.serves(queue)) {
                self.backend.queue_ready(queue, &mut self.io);
            }
        }
        let mut events = [EpollEvent::default(); EVENTS];
        loop {
            let count = match self.io.epoll.wait(-1, &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "worker cannot wait for events");
                    self.io.interrupt.needs_reset();
                    break;
                }
            };
            let ready = events.get(..count).unwrap_or_default();
            if ready.iter().any(|event| event.data() == TOKEN_MAILBOX) {
                let post = mailbox.collect();
                for letter in post.letters {
                    letter.answer(|update| self.backend.update(update, Some(&mut self.io)));
                }
                if post.refresh {
                    self.backend.refresh(&mut self.io);
                }
                if post.stop {
                    break;
                }
            }
            for event in ready.iter().filter(|event| event.data() != TOKEN_MAILBOX) {
                match event.data().checked_sub(TOKEN_QUEUES) {
                    // Below 65,536 by construction of the tokens.
                    Some(queue) => self.backend.queue_ready(queue as usize, &mut self.io),
                    // Backend tokens have 32 bits.
                    None => self
                        .backend
                        .event(event.data() as u32, event.event_set(), &mut self.io),
                }
            }
        }
        self.backend.quiesce(&mut self.io);
    }
}

impl<B: Backend> Worker<B> {
    /// Waits for a worker that its mailbox has told to stop. Nothing comes back from one that died.
    pub(super) fn join(self) -> Option<Runner<B>> {
        if let Some(interrupt) = self.interrupter
            && !self.mailbox.wait_until_closed(STOP_TIMEOUT)
        {
            interrupt();
        }
        self.thread.join().ok()
    }
}
