//! The entropy device (virtio 1.3 §5.4): fills the driver's buffers with random bytes of the host.

use super::config_space::ConfigSpace;
use super::device::DeviceType;
use super::worker::{Backend, Io};
use crate::metrics::{Counter, Metrics};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Entries of the queue.
const QUEUE_SIZE: u16 = 64;
/// The most bytes for one request; the driver asks again for more.
const MAX_REQUEST: usize = 4096;
/// Requests served before other events get a turn.
const BUDGET: usize = 64;

/// What the user asked for; an entropy device has no options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct RngMetrics {
    /// Requests served.
    pub requests: Counter,
    /// Bytes given.
    pub bytes: Counter,
    /// Requests that named memory the guest does not have.
    pub failures: Counter,
}

/// The entropy device.
pub struct Rng {
    config: Config,
    space: Arc<ConfigSpace>,
    metrics: Arc<RngMetrics>,
}

impl Rng {
    /// Makes an entropy device.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            space: Arc::default(),
            metrics: Arc::default(),
        }
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State) -> Self {
        Self::new(state.config)
    }
}

impl Backend for Rng {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        let metrics = &self.metrics;
        io.serve(queue, BUDGET, |chain, ram| {
            let mut bytes = [0; MAX_REQUEST];
            let len = chain.writable.len().min(MAX_REQUEST as u64) as usize;
            let bytes = bytes.get_mut(..len).unwrap_or_default();
            let filled = fill_random(bytes);
            let written = filled && chain.writable.write(ram, bytes).is_ok();
            metrics.requests.increment();
            match written {
                true => metrics.bytes.add(len as u64),
                false => metrics.failures.increment(),
            }
            if written { len as u32 } else { 0 }
        });
    }

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
        }
    }
}

/// Fills `bytes` from the host's generator, by a system call and no file. Only fails before the host has gathered entropy at
/// its own boot; returns whether it did not.
pub fn fill_random(bytes: &mut [u8]) -> bool {
    // SAFETY: the kernel writes at most `bytes.len()` bytes to `bytes`, which lives for the whole call.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    usize::try_from(count) == Ok(bytes.len())
}

#[cfg(test)]
#[path = "rng_tests.rs"]
mod tests;
