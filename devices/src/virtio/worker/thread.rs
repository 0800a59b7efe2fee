//! A worker's thread and its event loop.

use super::{Backend, Interrupter, Io, ThreadHook};
use crate::virtio::queue::Queue;
use crate::virtio::update::{Mailbox, Stop};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Workers keep their data on the heap, so a small stack does, and thousands of virtual machines share a host.
pub(super) const STACK_SIZE: usize = 256 * 1024;

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

/// Closes the mailbox of a worker, also of one that panics.
struct Closing<'a>(&'a Mailbox);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<B: Backend> Runner<B> {
    /// Starts the thread. The runner comes back if that fails.
    pub(super) fn spawn(self, name: String, hook: ThreadHook) -> Result<Worker<B>, (io::Error, Self)> {
        let mailbox = Mailbox::new().and_then(|mailbox| self.register(&mailbox).map(|()| mailbox));
        let mailbox = match mailbox {
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
            let closing = Closing(&read);
            match hook(&name) {
                Ok(()) => runner.run_while_wanted(&read),
                Err(error) => {
                    tracing::error!(thread = name, %error, "worker thread could not be set up");
                    runner.io.interrupt.needs_reset();
                }
            }
            drop(closing);
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

    /// Gets a fresh set of descriptors to wait for: an old one still has those of the last run.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        self.io.epoll = Epoll::new()?;
        Ok(())
    }

    /// Registers all that the loop waits for.
    fn register(&self, mailbox: &Mailbox) -> io::Result<()> {
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
        Ok(())
    }

    /// Whether the queue is this thread's business.
    fn serves(&self, queue: &Queue) -> bool {
        self.backend.serves(queue.index(), self.io.features)
    }

    /// Runs until the worker shall stop, and again if it shall go on after all when it has already stopped.
    fn run_while_wanted(&mut self, mailbox: &Mailbox) {
        loop {
            self.run(mailbox);
            if !mailbox.close_unless_wanted() {
                return;
            }
            if let Err(error) = self.renew().and_then(|()| self.register(mailbox)) {
                tracing::error!(%error, "worker cannot go on");
                self.io.interrupt.needs_reset();
                return;
            }
        }
    }

    fn serve_all(&mut self) {
        for queue in 0..self.io.queues.len() {
            if self.io.queues.get(queue).is_some_and(|queue| self.serves(queue)) {
                self.backend.queue_ready(queue, &mut self.io);
            }
        }
    }

    /// Does what has come by mail.
    fn read(&mut self, mailbox: &Mailbox) {
        let post = mailbox.collect();
        for letter in post.letters {
            letter.answer(|update| self.backend.update(update, Some(&mut self.io)));
        }
        if post.refresh {
            self.backend.refresh(&mut self.io);
        }
        if let Some(how) = post.stop {
            self.io.stopping = true;
            if how == Stop::Abandon {
                self.backend.abandon(&mut self.io);
            }
        } else if post.go_on && self.io.stopping {
            self.io.stopping = false;
            // What was announced meanwhile.
            self.serve_all();
        }
    }

    fn run(&mut self, mailbox: &Mailbox) {
        self.io.stopping = false;
        if let Err(error) = self.backend.start(&mut self.io) {
            tracing::error!(%error, "device could not be started");
            self.io.interrupt.needs_reset();
            return;
        }
        self.serve_all();
        let mut events = [EpollEvent::default(); EVENTS];
        while !self.io.stopping || self.backend.is_busy() {
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
                self.read(mailbox);
                if self.io.stopping && !self.backend.is_busy() {
                    break;
                }
            }
            for event in ready.iter().filter(|event| event.data() != TOKEN_MAILBOX) {
                match event.data().checked_sub(TOKEN_QUEUES) {
                    // What comes now is found when the worker runs again.
                    Some(_) if self.io.stopping => {}
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
    /// Ends what the worker waits for, if there is a way.
    pub(super) fn interrupt(&self) {
        if let Some(interrupt) = &self.interrupter {
            interrupt();
        }
    }

    /// Takes back what a worker had that has closed its mailbox. Nothing comes from one that died.
    pub(super) fn join(self) -> Option<Runner<B>> {
        self.thread.join().ok()
    }
}
