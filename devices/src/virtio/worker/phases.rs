//! A device's phases: idle, running, paused, and resetting while somebody else still has its requests, or changing while a
//! change at rest keeps somebody waiting. The same for all devices, whatever number of threads they have.
//!
//! Whoever stops a device (a vCPU with a reset, the control thread with a pause) waits for its workers, but not for ever: a
//! worker may be stuck in a system call on a file that hangs, or wait for the kernel to end such requests. A reset then
//! goes on by itself, and the workers keep what the requests need until they have ended.

use super::thread::{Runner, STACK_SIZE, Worker};
use super::{Backend, Io, ThreadHook};
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::{Activation, DeviceError, DeviceType, Reset, VirtioDevice};
use crate::virtio::queue::QueueState;
use crate::virtio::update::{Pending, Stop, UpdateError};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use vmm_sys_util::epoll::Epoll;

/// How long a reset may hold up the vCPU that asks for it. Nearly all requests end sooner, and not all drivers look whether
/// their reset is done.
const RESET_PATIENCE: Duration = Duration::from_millis(200);

/// How long a pause waits for requests, and a back end has until its worker waits for it no more.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// How long a change of a device at rest is waited for, before it goes on by itself.
const CHANGE_PATIENCE: Duration = Duration::from_secs(1);

/// How long a worker takes to stop that waits for its back end no more.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(1);

/// A group of queues of a running device.
enum Group<B> {
    /// Its worker has the backend.
    Served(Worker<B>),
    /// The driver uses none of its queues, so it has no thread.
    Unused(Runner<B>),
}

enum Phase<B> {
    /// The driver has not activated the device.
    Idle(Vec<B>),
    /// The workers have the backends.
    Running(Vec<Group<B>>, ThreadHook),
    /// Activated, but stopped for the moment.
    Paused(Vec<Runner<B>>, ThreadHook),
    /// Reset at this time, but somebody still has requests.
    Resetting(Vec<Group<B>>, Instant),
    /// Idle or paused, but a thread of its own has it all for a change that may hang; it comes back from there.
    Changing(Receiver<Phase<B>>),
    /// A worker died by a defect of ours; its backend went with it.
    Dead,
}

/// A device: a backend for each group of its queues, and their workers.
pub struct Virtio<B: Backend> {
    device_type: DeviceType,
    features: u64,
    ring_features: u64,
    queue_sizes: Vec<u16>,
    config: Arc<ConfigSpace>,
    metrics: Arc<dyn Metrics>,
    phase: Phase<B>,
}

impl<B: Backend> Virtio<B> {
    /// Makes a device of this backend and its siblings, not yet activated.
    pub fn new(mut backend: B) -> Self {
        let mut device = Self {
            device_type: backend.device_type(),
            features: backend.features(),
            ring_features: backend.ring_features(),
            queue_sizes: backend.queue_sizes(),
            config: backend.config(),
            metrics: backend.metrics(),
            phase: Phase::Dead,
        };
        let siblings = backend.take_siblings();
        device.phase = Phase::Idle([backend].into_iter().chain(siblings).collect());
        device
    }

    fn start_error(&self, source: io::Error) -> DeviceError {
        DeviceError::Start {
            device: self.device_type,
            source,
        }
    }

    fn phase_error(&self, operation: &'static str, phase: &'static str) -> DeviceError {
        DeviceError::Phase {
            device: self.device_type,
            operation,
            phase,
        }
    }

    fn busy(&self) -> DeviceError {
        DeviceError::Busy {
            device: self.device_type,
            patience: STOP_PATIENCE,
        }
    }

    /// Takes back what a change had, if it is over in time.
    fn settle(&mut self, patience: Duration) {
        if let Phase::Changing(change) = &self.phase {
            match change.recv_timeout(patience) {
                Ok(phase) => self.phase = phase,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.phase = Phase::Dead,
            }
        }
    }

    /// Changes a device at rest.
    fn change(&mut self, update: serde_json::Value) -> Pending {
        let (give, given) = sync_channel::<Phase<B>>(1);
        let (give_back, change) = sync_channel(1);
        let (reply, pending) = Pending::new();
        let spawned = std::thread::Builder::new()
            .name("device-change".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || {
                let Ok(mut phase) = given.recv() else { return };
                let result = match &mut phase {
                    Phase::Paused(runners, _) => runners
                        .first_mut()
                        .map(|Runner { backend, io }| backend.update(update, Some(io))),
                    Phase::Idle(backends) => backends.first_mut().map(|backend| backend.update(update, None)),
                    _ => None,
                };
                // Whoever has the answer finds the device at rest again. Nobody waits for either if it took too long.
                let _ = give_back.send(phase);
                let _ = reply.send(result.unwrap_or(Err(UpdateError::NoAnswer)));
            });
        if let Err(source) = spawned {
            let what = "start a thread for the change";
            return Pending::now(Err(UpdateError::Failed { what, source }));
        }
        let resting = std::mem::replace(&mut self.phase, Phase::Changing(change));
        // The thread waits for it, and there is room.
        let _ = give.send(resting);
        self.settle(CHANGE_PATIENCE);
        pending
    }

    /// Starts a thread for each group that has something to do. If one cannot be had, all come back.
    fn start(
        &self,
        runners: Vec<Runner<B>>,
        hook: &ThreadHook,
    ) -> Result<Vec<Group<B>>, (DeviceError, Phase<B>)> {
        let mut groups = Vec::with_capacity(runners.len());
        let mut failure = None;
        for (number, runner) in runners.into_iter().enumerate() {
            let used = number == 0 || runner.io.queues.iter().any(|queue| queue.is_ready());
            if !used || failure.is_some() {
                groups.push(Group::Unused(runner));
                continue;
            }
            match launch(number, runner, hook) {
                Ok(worker) => groups.push(Group::Served(worker)),
                Err((source, runner)) => {
                    groups.push(Group::Unused(runner));
                    failure = Some(self.start_error(source));
                }
            }
        }
        match failure {
            None => Ok(groups),
            Some(error) => {
                tell(&groups, Stop::Finish);
                let phase = join(groups).map_or(Phase::Dead, |runners| Phase::Paused(runners, hook.clone()));
                Err((error, phase))
            }
        }
    }

    /// Lets workers that were told to stop go on, and starts those again that have stopped.
    fn go_on(&self, groups: Vec<Group<B>>, hook: ThreadHook) -> Phase<B> {
        let mut running = Vec::with_capacity(groups.len());
        for (number, group) in groups.into_iter().enumerate() {
            let stopped = match group {
                Group::Served(worker) if !worker.mailbox.go_on() => worker.join(),
                other => {
                    running.push(other);
                    continue;
                }
            };
            let Some(mut runner) = stopped else {
                return Phase::Dead;
            };
            let renewed = runner.renew();
            let launched = match renewed {
                Ok(()) => launch(number, runner, &hook),
                Err(error) => Err((error, runner)),
            };
            running.push(match launched {
                Ok(worker) => Group::Served(worker),
                Err((error, runner)) => {
                    tracing::error!(device = ?self.device_type, %error, "worker cannot go on");
                    runner.io.interrupt.needs_reset();
                    Group::Unused(runner)
                }
            });
        }
        Phase::Running(running, hook)
    }
}

/// Starts the thread of a group.
fn launch<B: Backend>(
    number: usize,
    mut runner: Runner<B>,
    hook: &ThreadHook,
) -> Result<Worker<B>, (io::Error, Runner<B>)> {
    if let Err(error) = runner.backend.prepare(hook) {
        return Err((error, runner));
    }
    let mut name = runner.backend.thread_name();
    if number > 0 {
        name += &format!("-{number}");
    }
    runner.spawn(name, hook.clone())
}

fn workers<B>(groups: &[Group<B>]) -> impl Iterator<Item = &Worker<B>> {
    groups.iter().filter_map(|group| match group {
        Group::Served(worker) => Some(worker),
        Group::Unused(_) => None,
    })
}

/// Tells all workers to stop.
fn tell<B>(groups: &[Group<B>], how: Stop) {
    workers(groups).for_each(|worker| worker.mailbox.stop(how));
}

/// Waits until all workers have stopped. Returns whether it came to that.
fn wait<B>(groups: &[Group<B>], patience: Duration) -> bool {
    let until = Instant::now() + patience;
    workers(groups).all(|worker| {
        let left = until.saturating_duration_since(Instant::now());
        worker.mailbox.wait_until_closed(left)
    })
}

/// Takes back what all workers have, once they have stopped. Nothing comes back if one of them has died.
fn join<B: Backend>(groups: Vec<Group<B>>) -> Option<Vec<Runner<B>>> {
    let runners: Vec<_> = groups
        .into_iter()
        .map(|group| match group {
            Group::Served(worker) => worker.join(),
            Group::Unused(runner) => Some(runner),
        })
        .collect();
    runners.into_iter().collect()
}

/// The backends without what they worked with.
fn backends<B>(runners: Vec<Runner<B>>) -> Vec<B> {
    runners.into_iter().map(|runner| runner.backend).collect()
}

/// Divides what an activation brings among the backends.
fn divide<B: Backend>(
    backends: Vec<B>,
    activation: Activation,
) -> Result<Vec<Runner<B>>, (io::Error, Vec<B>)> {
    let mut groups: Vec<_> = backends.iter().map(|_| Vec::new()).collect();
    for queue in activation.queues {
        let number = backends
            .first()
            .map_or(0, |first| first.group(queue.index(), activation.features));
        debug_assert!(number < groups.len());
        if let Some(group) = groups.get_mut(number) {
            group.push(queue);
        }
    }
    let epolls: io::Result<Vec<_>> = backends.iter().map(|_| Epoll::new()).collect();
    let epolls = match epolls {
        Ok(epolls) => epolls,
        Err(error) => return Err((error, backends)),
    };
    let parts = backends.into_iter().zip(groups).zip(epolls);
    Ok(parts
        .map(|((backend, queues), epoll)| Runner {
            backend,
            io: Io {
                queues,
                memory: activation.memory.clone(),
                interrupt: activation.interrupt.clone(),
                features: activation.features,
                epoll,
                stopping: false,
            },
        })
        .collect())
}

impl<B: Backend> VirtioDevice for Virtio<B> {
    fn device_type(&self) -> DeviceType {
        self.device_type
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn ring_features(&self) -> u64 {
        self.ring_features
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.config.write(offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        self.settle(Duration::ZERO);
        let idle = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Idle(backends) => backends,
            other => {
                let phase = other.name();
                self.phase = other;
                return Err(self.phase_error("activate", phase));
            }
        };
        let hook = activation.thread_hook.clone();
        let runners = match divide(idle, activation) {
            Ok(runners) => runners,
            Err((source, idle)) => {
                self.phase = Phase::Idle(idle);
                return Err(self.start_error(source));
            }
        };
        match self.start(runners, &hook) {
            Ok(groups) => {
                self.phase = Phase::Running(groups, hook);
                Ok(())
            }
            Err((error, phase)) => {
                self.phase = phase;
                self.reset();
                Err(error)
            }
        }
    }

    fn reset(&mut self) -> Reset {
        self.settle(Duration::ZERO);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Running(groups, _) => {
                tell(&groups, Stop::Abandon);
                wait(&groups, RESET_PATIENCE);
                Phase::Resetting(groups, Instant::now())
            }
            Phase::Paused(runners, _) => Phase::Idle(backends(runners)),
            other => other,
        };
        self.phase = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Resetting(groups, since) if !wait(&groups, Duration::ZERO) => {
                if since.elapsed() > STOP_PATIENCE {
                    workers(&groups).for_each(Worker::interrupt);
                }
                self.phase = Phase::Resetting(groups, since);
                return Reset::Pending;
            }
            Phase::Resetting(groups, _) => {
                join(groups).map_or(Phase::Dead, |runners| Phase::Idle(backends(runners)))
            }
            other => other,
        };
        match &mut self.phase {
            Phase::Idle(backends) => backends.iter_mut().for_each(B::reset),
            Phase::Changing(_) => return Reset::Pending,
            _ => {}
        }
        Reset::Done
    }

    fn pause(&mut self) -> Result<(), DeviceError> {
        self.settle(Duration::ZERO);
        self.phase = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Running(groups, hook) => {
                tell(&groups, Stop::Finish);
                let mut stopped = wait(&groups, STOP_PATIENCE);
                if !stopped {
                    workers(&groups).for_each(Worker::interrupt);
                    stopped = wait(&groups, INTERRUPTED_PATIENCE);
                }
                if !stopped {
                    self.phase = self.go_on(groups, hook);
                    return Err(self.busy());
                }
                join(groups).map_or(Phase::Dead, |runners| Phase::Paused(runners, hook))
            }
            other => other,
        };
        match self.phase {
            Phase::Dead => Err(self.phase_error("pause", "dead")),
            Phase::Resetting(..) | Phase::Changing(_) => Err(self.busy()),
            _ => Ok(()),
        }
    }

    fn resume(&mut self) -> Result<(), DeviceError> {
        self.settle(Duration::ZERO);
        if matches!(self.phase, Phase::Changing(_)) {
            return Err(self.busy());
        }
        let (mut runners, hook) = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Paused(runners, hook) => (runners, hook),
            other => {
                self.phase = other;
                return Ok(());
            }
        };
        for runner in &mut runners {
            if let Err(source) = runner.renew() {
                self.phase = Phase::Paused(runners, hook);
                return Err(self.start_error(source));
            }
        }
        match self.start(runners, &hook) {
            Ok(groups) => {
                self.phase = Phase::Running(groups, hook);
                Ok(())
            }
            Err((error, phase)) => {
                self.phase = phase;
                Err(error)
            }
        }
    }

    fn refresh(&mut self) {
        // Those at rest find out when they start.
        if let Phase::Running(groups, _) = &self.phase {
            workers(groups).for_each(|worker| worker.mailbox.refresh());
        }
    }

    fn update(&mut self, update: serde_json::Value) -> Pending {
        self.settle(Duration::ZERO);
        match &self.phase {
            Phase::Running(groups, _) => match groups.first() {
                Some(Group::Served(worker)) => worker.mailbox.post(update),
                _ => Pending::now(Err(UpdateError::NoAnswer)),
            },
            Phase::Paused(..) | Phase::Idle(_) => self.change(update),
            Phase::Resetting(..) | Phase::Changing(_) | Phase::Dead => {
                Pending::now(Err(UpdateError::NoAnswer))
            }
        }
    }

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        let backend = match &self.phase {
            Phase::Idle(backends) => backends.first(),
            Phase::Paused(runners, _) => runners.first().map(|runner| &runner.backend),
            _ => None,
        };
        let Some(backend) = backend else {
            return Err(self.phase_error("save", self.phase.name()));
        };
        serde_json::to_value(backend.save()).map_err(|source| DeviceError::Encode {
            device: self.device_type,
            source,
        })
    }

    fn queue_states(&self) -> Vec<QueueState> {
        let Phase::Paused(runners, _) = &self.phase else {
            return Vec::new();
        };
        let queues = runners.iter().flat_map(|runner| &runner.io.queues);
        let mut states: Vec<_> = queues.map(|queue| (queue.index(), queue.state())).collect();
        states.sort_by_key(|(index, _)| *index);
        states.into_iter().map(|(_, state)| state).collect()
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
            Phase::Resetting(..) => "resetting",
            Phase::Changing(_) => "changing",
            Phase::Dead => "dead",
        }
    }
}

impl<B: Backend> Drop for Virtio<B> {
    fn drop(&mut self) {
        // Workers that cannot stop yet keep what they have, and drop it when they can.
        let _ = self.reset();
    }
}
