//! Persistent memory (virtio 1.3 §5.19): a file of the host in the guest's address space, which the guest uses without
//! a page cache of its own. Whoever makes the device maps the file there; the device's part is to tell the driver where,
//! and to bring what the guest has written to the file's disk when it asks for that.

use super::config_space::ConfigSpace;
use super::device::DeviceType;
use super::worker::{Backend, Io};
use crate::metrics::{Counter, Histogram, Metrics};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Entries of the queue.
const QUEUE_SIZE: u16 = 64;
/// Requests served before other events get a turn.
const BUDGET: usize = 16;
/// The only request (§5.19.6), and the answers to it: done, or not (§5.19.6.1; Linux takes any other number for an I/O
/// error).
const FLUSH: u32 = 0;
const DONE: u32 = 0;
const FAILED: u32 = 1;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// First guest address.
    pub address: u64,
    /// Size in the guest.
    pub bytes: u64,
    /// Whether the guest cannot write, so that there is nothing to flush.
    pub read_only: bool,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct PmemMetrics {
    /// Flushes that were done.
    pub flushes: Counter,
    /// How long they took.
    pub flush_latency: Histogram,
    /// Flushes that the host could not do.
    pub failures: Counter,
    /// Requests that made no sense.
    pub refused: Counter,
}

/// A persistent memory device.
pub struct Pmem {
    config: Config,
    file: File,
    space: Arc<ConfigSpace>,
    metrics: Arc<PmemMetrics>,
}

impl Pmem {
    /// Makes a device of a file that is mapped as the configuration says.
    pub fn new(config: Config, file: File) -> Self {
        let space = [config.address, config.bytes].map(u64::to_le_bytes).concat();
        Self {
            config,
            file,
            space: Arc::new(ConfigSpace::new(space)),
            metrics: Arc::default(),
        }
    }

    /// Makes the device again as it was saved, of the same file.
    pub fn restore(state: State, file: File) -> Self {
        Self::new(state.config, file)
    }

    fn flush(&self) -> io::Result<()> {
        match self.config.read_only {
            true => Ok(()),
            false => self.file.sync_data(),
        }
    }
}

impl Backend for Pmem {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Pmem
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
        io.serve(queue, BUDGET, |chain, ram| {
            let mut request = [0; 4];
            let known =
                chain.readable.read(ram, &mut request).is_ok() && u32::from_le_bytes(request) == FLUSH;
            let answer = match known {
                false => {
                    self.metrics.refused.increment();
                    FAILED
                }
                true => {
                    let began = Instant::now();
                    match self.flush() {
                        Ok(()) => {
                            self.metrics.flushes.increment();
                            self.metrics.flush_latency.observe(began.elapsed());
                            DONE
                        }
                        Err(error) => {
                            tracing::debug!(%error, "persistent memory cannot be flushed");
                            self.metrics.failures.increment();
                            FAILED
                        }
                    }
                }
            };
            match chain.writable.write(ram, &answer.to_le_bytes()) {
                Ok(()) => 4,
                Err(_) => 0,
            }
        });
    }

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
        }
    }
}

#[cfg(test)]
#[path = "pmem_tests.rs"]
mod tests;
