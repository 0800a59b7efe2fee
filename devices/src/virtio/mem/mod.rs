//! Memory that is plugged and unplugged in small blocks while the guest runs (virtio 1.3 §5.15, virtio-mem).
//!
//! The device owns a region of guest addresses above RAM and says how much of it the guest should use (requested size);
//! the driver asks to plug and unplug blocks until that is so. Unplugged blocks go back to the host.
//!
//! The region lies in the memory map as a whole, so a guest that touches unplugged blocks against the rules gets pages
//! there, until they are unplugged again: what limits it is the size of the region, which is what the user must be
//! ready to give.

mod blocks;
mod request;

use super::config_space::ConfigSpace;
use super::device::DeviceType;
use super::update::{self, UpdateError, UpdateResult};
use super::worker::{Backend, Io};
use crate::discard::discard;
use crate::memory::Ram;
use crate::metrics::{Counter, Gauge, Metrics};
use blocks::Blocks;
use request::{BlockState, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::Arc;

/// Entries of the queue; Linux has one request at a time.
const QUEUE_SIZE: u16 = 128;
/// Requests served before other events get a turn.
const BUDGET: usize = 16;

/// Features (§5.15.3): the node's number is valid; the driver leaves unplugged memory alone altogether.
const ACPI_PXM: u32 = 0;
const UNPLUGGED_INACCESSIBLE: u32 = 1;

/// Offsets in the configuration space (§5.15.4).
const PLUGGED_SIZE: usize = 40;
const REQUESTED_SIZE: usize = 48;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// First guest address of the region.
    pub address: u64,
    /// Size of the region, a multiple of `block_bytes`.
    pub region_bytes: u64,
    /// Size of a block, a power of two.
    pub block_bytes: u64,
    /// NUMA node of the region.
    pub node: u16,
    /// How much the guest should use.
    pub requested_bytes: u64,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
    /// Plugged blocks by number.
    pub plugged: Vec<Range<usize>>,
}

/// What can be changed while the guest runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// How much the guest should use.
    pub requested_bytes: u64,
}

/// The device cannot be made as its configuration or state says.
#[derive(Debug, thiserror::Error)]
pub enum MemError {
    /// Region and blocks do not fit together.
    #[error(
        "a region of {region_bytes} bytes at {address:#x} does not consist of blocks of {block_bytes} bytes"
    )]
    Region {
        /// First address.
        address: u64,
        /// Size of the region.
        region_bytes: u64,
        /// Size of a block.
        block_bytes: u64,
    },
    /// The requested size is not possible.
    #[error("{0}")]
    Requested(String),
    /// A saved device had blocks outside of its region.
    #[error("the saved device has blocks {0:?} outside of its region")]
    Plugged(Range<usize>),
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct MemMetrics {
    /// How much the guest should use.
    pub requested_bytes: Gauge,
    /// How much it uses.
    pub plugged_bytes: Gauge,
    /// Requests that were followed.
    pub requests: Counter,
    /// Requests that were refused, or made no sense.
    pub refused: Counter,
    /// Blocks that the host did not take back.
    pub failures: Counter,
}

/// The memory device.
pub struct Mem {
    config: Config,
    space: Arc<ConfigSpace>,
    metrics: Arc<MemMetrics>,
    blocks: Blocks,
}

impl Mem {
    /// Makes a device without plugged blocks.
    pub fn new(config: Config) -> Result<Self, MemError> {
        let Config {
            address,
            region_bytes,
            block_bytes,
            node,
            ..
        } = config;
        let fits = block_bytes.is_power_of_two()
            && address.is_multiple_of(block_bytes)
            && region_bytes.is_multiple_of(block_bytes)
            && address.checked_add(region_bytes).is_some();
        if !fits {
            return Err(MemError::Region {
                address,
                region_bytes,
                block_bytes,
            });
        }
        let mut space = Vec::new();
        // The usable part is all of it; nothing is plugged, and what is requested follows.
        for number in [
            block_bytes,
            u64::from(node),
            address,
            region_bytes,
            region_bytes,
            0,
            0,
        ] {
            space.extend(number.to_le_bytes());
        }
        let mut device = Self {
            blocks: Blocks::new((region_bytes / block_bytes) as usize),
            space: Arc::new(ConfigSpace::new(space)),
            metrics: Arc::default(),
            config,
        };
        device
            .request(device.config.requested_bytes)
            .map_err(MemError::Requested)?;
        Ok(device)
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State) -> Result<Self, MemError> {
        let mut device = Self::new(state.config)?;
        for range in state.plugged {
            if range.start >= range.end || !device.blocks.contains(&range) {
                return Err(MemError::Plugged(range));
            }
            device.blocks.set(range, true);
        }
        device.publish_plugged();
        Ok(device)
    }

    /// Changes how much the guest should use.
    fn request(&mut self, bytes: u64) -> Result<(), String> {
        let (most, block) = (self.config.region_bytes, self.config.block_bytes);
        if bytes > most || !bytes.is_multiple_of(block) {
            return Err(format!(
                "{bytes} bytes cannot be plugged: use a multiple of {block} up to {most}"
            ));
        }
        self.config.requested_bytes = bytes;
        self.metrics.requested_bytes.set(bytes);
        self.space.update(REQUESTED_SIZE, &bytes.to_le_bytes());
        Ok(())
    }

    fn plugged_bytes(&self) -> u64 {
        self.blocks.plugged() as u64 * self.config.block_bytes
    }

    fn publish_plugged(&self) {
        let bytes = self.plugged_bytes();
        self.metrics.plugged_bytes.set(bytes);
        self.space.update(PLUGGED_SIZE, &bytes.to_le_bytes());
    }

    /// The blocks that a request names, if it is well-formed.
    fn range(&self, address: u64, count: u16) -> Option<Range<usize>> {
        let offset = address.checked_sub(self.config.address)?;
        if count == 0 || !offset.is_multiple_of(self.config.block_bytes) {
            return None;
        }
        let first = usize::try_from(offset / self.config.block_bytes).ok()?;
        let range = first..first.checked_add(usize::from(count))?;
        self.blocks.contains(&range).then_some(range)
    }

    /// Guest addresses of blocks.
    fn addresses(&self, range: &Range<usize>) -> Range<u64> {
        let address = |block: usize| self.config.address + block as u64 * self.config.block_bytes;
        address(range.start)..address(range.end)
    }

    /// Carries a request out (§5.15.6).
    fn execute(&mut self, request: Option<Request>, ram: &Ram) -> Response {
        match request {
            Some(Request::Plug { address, count }) => self.plug(address, count),
            Some(Request::Unplug { address, count }) => match self.range(address, count) {
                Some(range) if self.blocks.all(&range, true) => self.unplug(range, ram),
                _ => Response::Error,
            },
            // Everything, because a guest may have touched what was not plugged.
            Some(Request::UnplugAll) => self.unplug(0..self.blocks.len(), ram),
            Some(Request::State { address, count }) => match self.range(address, count) {
                Some(range) if self.blocks.all(&range, true) => Response::State(BlockState::Plugged),
                Some(range) if self.blocks.all(&range, false) => Response::State(BlockState::Unplugged),
                Some(_) => Response::State(BlockState::Mixed),
                None => Response::Error,
            },
            None => Response::Error,
        }
    }

    fn plug(&mut self, address: u64, count: u16) -> Response {
        let range = match self.range(address, count) {
            Some(range) if self.blocks.all(&range, false) => range,
            _ => return Response::Error,
        };
        let added = u64::from(count) * self.config.block_bytes;
        if self.plugged_bytes() + added > self.config.requested_bytes {
            return Response::Nack;
        }
        self.blocks.set(range, true);
        self.publish_plugged();
        Response::Ack
    }

    fn unplug(&mut self, range: Range<usize>, ram: &Ram) -> Response {
        if let Err(error) = discard(ram, self.addresses(&range)) {
            tracing::debug!(%error, "unplugged memory stays with the guest");
            self.metrics.failures.increment();
            return Response::Busy;
        }
        self.blocks.set(range, false);
        self.publish_plugged();
        Response::Ack
    }
}

impl Backend for Mem {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Mem
    }

    fn features(&self) -> u64 {
        1 << ACPI_PXM | 1 << UNPLUGGED_INACCESSIBLE
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
            let request = Request::read(&mut chain.readable, ram);
            let response = self.execute(request, ram);
            match response {
                Response::Ack | Response::State(_) => self.metrics.requests.increment(),
                Response::Nack | Response::Busy | Response::Error => self.metrics.refused.increment(),
            }
            response.write(&mut chain.writable, ram)
        });
    }

    fn update(&mut self, update: Value, io: Option<&mut Io>) -> UpdateResult {
        let update: Update = update::parse(update)?;
        self.request(update.requested_bytes)
            .map_err(UpdateError::Invalid)?;
        if let Some(io) = io {
            io.interrupt.config();
        }
        Ok(json!({
            "requested_bytes": self.config.requested_bytes,
            "plugged_bytes": self.plugged_bytes(),
        }))
    }

    // A reset of the device leaves blocks as they are (§5.15.5.2): the driver that comes next finds out by itself.

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
            plugged: self.blocks.runs(),
        }
    }
}

#[cfg(test)]
#[path = "mem_tests.rs"]
mod tests;
