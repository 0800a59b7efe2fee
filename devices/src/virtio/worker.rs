//! One thread with an event loop per active device, and [`Virtio`], which gives a device the phases of
//! [`VirtioDevice`] on top of it.
//!
//! A device implements [`Backend`]: it is called on its thread when the driver adds to a queue or when one of its own
//! descriptors is ready, and owns everything it touches. Between activations the backend rests in [`Virtio`].

use super::config_space::ConfigSpace;
use super::device::{Activation, DeviceError, DeviceType, Interrupt, VirtioDevice};
use super::queue::{Chain, Queue, QueueState};
use super::update::{Mailbox, Pending, UpdateError, UpdateResult};
use crate::memory::{Memory, Ram};
use crate::metrics::Metrics;
use serde::Serialize;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

/// Called with the thread's name first thing in each worker thread, for seccomp filters and scheduling. An error
/// stops the device before it has seen anything of the guest.
pub type ThreadHook = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

/// A hook that does nothing.
pub fn no_hook() -> ThreadHook {
    Arc::new(|_| Ok(()))
}

/// Workers keep their data on the heap, so a small stack does, and thousands of virtual machines share a host.
const STACK_SIZE: usize = 256 * 1024;

/// Events taken from the kernel at once.
const EVENTS: usize = 32;

/// Tokens of the loop's own descriptors; those of the backend are below.
const TOKEN_MAILBOX: u64 = u64::MAX;
const TOKEN_QUEUES: u64 = u64::MAX - 0x1_0000;

/// What a backend works with while its device is active.
pub struct Io {
    /// All queues in order.
    pub queues: Vec<Queue>,
    /// Guest memory.
    pub memory: Memory,
    /// The way to the driver.
    pub interrupt: Arc<dyn Interrupt>,
    /// Features that were agreed on.
    pub features: u64,
    epoll: Epoll,
}

impl Io {
    /// Calls [`Backend::event`] with `token` when `fd` is ready for `events`.
    pub fn add(&self, fd: RawFd, token: u32, events: EventSet) -> io::Result<()> {
        self.epoll.ctl(
            ControlOperation::Add,
            fd,
            EpollEvent::new(events, u64::from(token)),
        )
    }

    /// Changes what is waited for.
    pub fn modify(&self, fd: RawFd, token: u32, events: EventSet) -> io::Result<()> {
        self.epoll.ctl(
            ControlOperation::Modify,
            fd,
            EpollEvent::new(events, u64::from(token)),
        )
    }

    /// Waits no longer.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.epoll
            .ctl(ControlOperation::Delete, fd, EpollEvent::default())
    }

    /// Serves a queue request by request: `serve` gets each chain and returns the number of bytes it wrote. After
    /// `budget` requests the device's other events get their turn first.
    pub fn serve(&mut self, queue: usize, budget: usize, mut serve: impl FnMut(&mut Chain, &Ram) -> u32) {
        let ram = self.memory.memory();
        let Some(queue) = self.queues.get_mut(queue) else {
            return;
        };
        let mut served = 0;
        loop {
            queue.disable_notification();
            while served < budget
                && let Some(mut chain) = queue.pop()
            {
                let len = serve(&mut chain, &ram);
                queue.add_used(chain.head, len);
                served += 1;
            }
            if served >= budget {
                queue.wake_again();
                break;
            }
            if !queue.enable_notification() {
                break;
            }
        }
        queue.signal();
    }

    /// Whether driver and device agreed on the feature with this bit number.
    pub fn has_feature(&self, bit: u32) -> bool {
        self.features & (1 << bit) != 0
    }
}

/// What is special to a device.
pub trait Backend: Send + 'static {
    /// What a snapshot holds of it.
    type State: Serialize;
    /// The device's id.
    fn device_type(&self) -> DeviceType;
    /// The device's own feature bits.
    fn features(&self) -> u64 {
        0
    }
    /// The greatest size of each queue.
    fn queue_sizes(&self) -> Vec<u16>;
    /// The configuration space, shared with the transport.
    fn config(&self) -> Arc<ConfigSpace>;
    /// The counters, shared with whoever asks.
    fn metrics(&self) -> Arc<dyn Metrics>;
    /// The driver is ready (or the device is resumed): register own descriptors with `io`.
    fn start(&mut self, _io: &mut Io) -> io::Result<()> {
        Ok(())
    }
    /// The driver added to this queue. Called once for each queue at the start, too.
    fn queue_ready(&mut self, queue: usize, io: &mut Io);
    /// A descriptor registered with this token is ready.
    fn event(&mut self, _token: u32, _events: EventSet, _io: &mut Io) {}
    /// Finish what is in flight and register nothing any more: the loop is about to end. Afterwards nothing touches
    /// guest memory.
    fn quiesce(&mut self, _io: &mut Io) {}
    /// Change something while the guest runs: the document came from outside of it ([`parse`](super::update::parse) reads
    /// it). `io` is missing while the driver has not activated the device; with it, the driver can be told. Called on the
    /// worker's thread, or on the device manager's while there is none; descriptors must not be registered then (while
    /// paused, [`start`](Self::start) follows).
    fn update(&mut self, _update: serde_json::Value, _io: Option<&mut Io>) -> UpdateResult {
        Err(UpdateError::Unsupported)
    }
    /// Forget the driver: it has reset the device.
    fn reset(&mut self) {}
    /// What a snapshot holds. Only called while the worker rests.
    fn save(&self) -> Self::State;
}

/// A backend together with what it works with.
struct Runner<B> {
    backend: B,
    io: Io,
}

struct Worker<B> {
    thread: JoinHandle<Runner<B>>,
    mailbox: Arc<Mailbox>,
}

enum Phase<B> {
    /// The driver has not activated the device.
    Idle(B),
    /// The worker has the backend.
    Running(Worker<B>, ThreadHook),
    /// Activated, but stopped for the moment.
    Paused(Runner<B>, ThreadHook),
    /// The worker died by a defect of ours; the backend went with it.
    Dead,
}

/// A device: a backend and its worker.
pub struct Virtio<B: Backend> {
    device_type: DeviceType,
    features: u64,
    queue_sizes: Vec<u16>,
    config: Arc<ConfigSpace>,
    metrics: Arc<dyn Metrics>,
    phase: Phase<B>,
}

impl<B: Backend> Virtio<B> {
    /// Makes a device of this backend, not yet activated.
    pub fn new(backend: B) -> Self {
        Self {
            device_type: backend.device_type(),
            features: backend.features(),
            queue_sizes: backend.queue_sizes(),
            config: backend.config(),
            metrics: backend.metrics(),
            phase: Phase::Idle(backend),
        }
    }

    fn start(&self, runner: Runner<B>, hook: ThreadHook) -> Result<Worker<B>, (DeviceError, Runner<B>)> {
        let name = format!("virtio-{:?}", self.device_type).to_lowercase();
        runner.spawn(name, hook).map_err(|(source, runner)| {
            (
                DeviceError::Start {
                    device: self.device_type,
                    source,
                },
                runner,
            )
        })
    }
}

impl<B: Backend> Runner<B> {
    /// Starts the thread. The runner comes back if that fails.
    fn spawn(self, name: String, hook: ThreadHook) -> Result<Worker<B>, (io::Error, Self)> {
        let mailbox = match Mailbox::new() {
            Ok(mailbox) => Arc::new(mailbox),
            Err(error) => return Err((error, self)),
        };
        if let Err(error) = self.register(mailbox.event()) {
            return Err((error, self));
        }
        // The runner travels through a slot so that it is not lost with the closure when no thread can be had.
        let slot = Arc::new(std::sync::Mutex::new(Some(self)));
        let (inner, read) = (slot.clone(), mailbox.clone());
        let builder = std::thread::Builder::new()
            .name(name.clone())
            .stack_size(STACK_SIZE);
        let spawned = builder.spawn(move || {
            let taken = inner
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .take();
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
            Ok(thread) => Ok(Worker { thread, mailbox }),
            Err(error) => {
                let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                #[allow(clippy::expect_used, reason = "without a thread nobody took it")]
                let runner = slot.take().expect("the slot holds the runner");
                Err((error, runner))
            }
        }
    }

    fn register(&self, mailbox: &EventFd) -> io::Result<()> {
        let add = |fd: &EventFd, token| {
            self.io.epoll.ctl(
                ControlOperation::Add,
                fd.as_raw_fd(),
                EpollEvent::new(EventSet::IN, token),
            )
        };
        add(mailbox, TOKEN_MAILBOX)?;
        for (queue, index) in self.io.queues.iter().zip(0..) {
            add(queue.notify(), TOKEN_QUEUES + index)?;
        }
        Ok(())
    }

    fn run(&mut self, mailbox: &Mailbox) {
        if let Err(error) = self.backend.start(&mut self.io) {
            tracing::error!(%error, "device could not be started");
            self.io.interrupt.needs_reset();
            return;
        }
        for queue in 0..self.io.queues.len() {
            self.backend.queue_ready(queue, &mut self.io);
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
                let (letters, stop) = mailbox.collect();
                for letter in letters {
                    letter.answer(|update| self.backend.update(update, Some(&mut self.io)));
                }
                if stop {
                    break;
                }
            }
            for event in ready.iter().filter(|event| event.data() != TOKEN_MAILBOX) {
                match event.data().checked_sub(TOKEN_QUEUES) {
                    Some(queue) => {
                        // Below 65,536 by construction of the tokens.
                        let queue = queue as usize;
                        if let Some(queue) = self.io.queues.get(queue) {
                            // Only fails when it is not signalled, and then there is nothing to clear.
                            let _ = queue.notify().read();
                        }
                        self.backend.queue_ready(queue, &mut self.io);
                    }
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
    fn stop(self) -> Option<Runner<B>> {
        self.mailbox.stop();
        self.thread.join().ok()
    }
}

impl<B: Backend> VirtioDevice for Virtio<B> {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let Activation {
            memory,
            queues,
            interrupt,
            features,
            thread_hook,
        } = activation;
        let backend = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Idle(backend) => backend,
            other => {
                let phase = other.name();
                self.phase = other;
                return Err(DeviceError::Phase {
                    device: self.device_type,
                    operation: "activate",
                    phase,
                });
            }
        };
        let epoll = match Epoll::new() {
            Ok(epoll) => epoll,
            Err(source) => {
                self.phase = Phase::Idle(backend);
                return Err(DeviceError::Start {
                    device: self.device_type,
                    source,
                });
            }
        };
        let runner = Runner {
            backend,
            io: Io {
                queues,
                memory,
                interrupt,
                features,
                epoll,
            },
        };
        match self.start(runner, thread_hook.clone()) {
            Ok(worker) => {
                self.phase = Phase::Running(worker, thread_hook);
                Ok(())
            }
            Err((error, runner)) => {
                self.phase = Phase::Idle(runner.backend);
                Err(error)
            }
        }
    }

    fn reset(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Running(worker, _) => worker
                .stop()
                .map_or(Phase::Dead, |runner| Phase::Idle(runner.backend)),
            Phase::Paused(runner, _) => Phase::Idle(runner.backend),
            other => other,
        };
        if let Phase::Idle(backend) = &mut self.phase {
            backend.reset();
        }
    }

    fn pause(&mut self) -> Result<(), DeviceError> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Running(worker, hook) => match worker.stop() {
                Some(runner) => Phase::Paused(runner, hook),
                None => Phase::Dead,
            },
            other => other,
        };
        match self.phase {
            Phase::Dead => Err(DeviceError::Phase {
                device: self.device_type,
                operation: "pause",
                phase: "dead",
            }),
            _ => Ok(()),
        }
    }

    fn resume(&mut self) -> Result<(), DeviceError> {
        match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Paused(mut runner, hook) => {
                // A fresh set of descriptors: the old one still has those of the last run.
                match Epoll::new() {
                    Ok(epoll) => runner.io.epoll = epoll,
                    Err(source) => {
                        self.phase = Phase::Paused(runner, hook);
                        return Err(DeviceError::Start {
                            device: self.device_type,
                            source,
                        });
                    }
                }
                match self.start(runner, hook.clone()) {
                    Ok(worker) => self.phase = Phase::Running(worker, hook),
                    Err((error, runner)) => {
                        self.phase = Phase::Paused(runner, hook);
                        return Err(error);
                    }
                }
            }
            other => self.phase = other,
        }
        Ok(())
    }

    fn update(&mut self, update: serde_json::Value) -> Pending {
        match &mut self.phase {
            Phase::Running(worker, _) => worker.mailbox.post(update),
            Phase::Paused(runner, _) => Pending::now(runner.backend.update(update, Some(&mut runner.io))),
            Phase::Idle(backend) => Pending::now(backend.update(update, None)),
            Phase::Dead => Pending::now(Err(UpdateError::NoAnswer)),
        }
    }

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        let backend = match &self.phase {
            Phase::Idle(backend) => backend,
            Phase::Paused(runner, _) => &runner.backend,
            other => {
                let phase = other.name();
                return Err(DeviceError::Phase {
                    device: self.device_type,
                    operation: "save",
                    phase,
                });
            }
        };
        serde_json::to_value(backend.save()).map_err(|source| DeviceError::Encode {
            device: self.device_type,
            source,
        })
    }

    fn queue_states(&self) -> Vec<QueueState> {
        match &self.phase {
            Phase::Paused(runner, _) => runner.io.queues.iter().map(Queue::state).collect(),
            _ => Vec::new(),
        }
    }

    fn metrics(&self) -> serde_json::Value {
        self.metrics.snapshot()
    }
}

impl<B> Phase<B> {
    fn name(&self) -> &'static str {
        match self {
            Phase::Idle(_) => "idle",
            Phase::Running(..) => "running",
            Phase::Paused(..) => "paused",
            Phase::Dead => "dead",
        }
    }
}

impl<B: Backend> Drop for Virtio<B> {
    fn drop(&mut self) {
        self.reset();
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
