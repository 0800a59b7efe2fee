//! A device's phases: idle, running, paused. The same for all devices, whatever number of threads they have.

use super::thread::{Runner, Worker};
use super::{Backend, Io, ThreadHook};
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::{Activation, DeviceError, DeviceType, VirtioDevice};
use crate::virtio::queue::QueueState;
use crate::virtio::update::{Pending, UpdateError};
use std::io;
use std::sync::Arc;
use vmm_sys_util::epoll::Epoll;

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
            let mut name = runner.backend.thread_name();
            if number > 0 {
                name += &format!("-{number}");
            }
            match runner.spawn(name, hook.clone()) {
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
                let phase = stop(groups).map_or(Phase::Dead, |runners| Phase::Paused(runners, hook.clone()));
                Err((error, phase))
            }
        }
    }
}

/// Stops all workers, at the same time. Nothing comes back if one of them has died.
fn stop<B: Backend>(groups: Vec<Group<B>>) -> Option<Vec<Runner<B>>> {
    for group in &groups {
        if let Group::Served(worker) = group {
            worker.mailbox.stop();
        }
    }
    // All are waited for, also after one that has died.
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

    fn reset(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Running(groups, _) => {
                stop(groups).map_or(Phase::Dead, |runners| Phase::Idle(backends(runners)))
            }
            Phase::Paused(runners, _) => Phase::Idle(backends(runners)),
            other => other,
        };
        if let Phase::Idle(backends) = &mut self.phase {
            backends.iter_mut().for_each(B::reset);
        }
    }

    fn pause(&mut self) -> Result<(), DeviceError> {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Running(groups, hook) => {
                stop(groups).map_or(Phase::Dead, |runners| Phase::Paused(runners, hook))
            }
            other => other,
        };
        match self.phase {
            Phase::Dead => Err(self.phase_error("pause", "dead")),
            _ => Ok(()),
        }
    }

    fn resume(&mut self) -> Result<(), DeviceError> {
        let (mut runners, hook) = match std::mem::replace(&mut self.phase, Phase::Dead) {
            Phase::Paused(runners, hook) => (runners, hook),
            other => {
                self.phase = other;
                return Ok(());
            }
        };
        for runner in &mut runners {
            // A fresh set of descriptors: the old one still has those of the last run.
            match Epoll::new() {
                Ok(epoll) => runner.io.epoll = epoll,
                Err(source) => {
                    self.phase = Phase::Paused(runners, hook);
                    return Err(self.start_error(source));
                }
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
            for group in groups {
                if let Group::Served(worker) = group {
                    worker.mailbox.refresh();
                }
            }
        }
    }

    fn update(&mut self, update: serde_json::Value) -> Pending {
        match &mut self.phase {
            Phase::Running(groups, _) => match groups.first() {
                Some(Group::Served(worker)) => worker.mailbox.post(update),
                _ => Pending::now(Err(UpdateError::NoAnswer)),
            },
            Phase::Paused(runners, _) => match runners.first_mut() {
                Some(Runner { backend, io }) => Pending::now(backend.update(update, Some(io))),
                None => Pending::now(Err(UpdateError::NoAnswer)),
            },
            Phase::Idle(backends) => match backends.first_mut() {
                Some(backend) => Pending::now(backend.update(update, None)),
                None => Pending::now(Err(UpdateError::NoAnswer)),
            },
            Phase::Dead => Pending::now(Err(UpdateError::NoAnswer)),
        }
    }

    fn save(&self) -> Result<serde_json::Value, DeviceError> {
        let backend = match &self.phase {
            Phase::Idle(backends) => backends.first(),
            Phase::Paused(runners, _) => runners.first().map(|runner| &runner.backend),
            Phase::Running(..) | Phase::Dead => None,
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
            Phase::Dead => "dead",
        }
    }
}

impl<B: Backend> Drop for Virtio<B> {
    fn drop(&mut self) {
        self.reset();
    }
}
