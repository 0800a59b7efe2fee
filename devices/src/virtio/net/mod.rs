//! The network card (virtio 1.3 §5.1) on a tap or macvtap link: checksum and segmentation offloads both ways, mergeable
//! receive buffers, several pairs of queues, and a control queue.
//!
//! Each pair of queues ([`pair`]) works on a queue of its own of the host's link. What the pairs have in common, and the
//! commands that change it, are in [`shared`].

pub mod control;
pub mod features;
pub mod filter;
pub mod header;
pub mod mac;
mod metrics;
mod pair;
mod receive;
mod shared;
pub mod tap;
mod vhost;

pub use mac::MacAddress;
pub use metrics::{NetMetrics, PairMetrics};
pub use shared::DriverState;
pub use tap::{Tap, TapError};
pub use vhost::{VhostNet, VhostNetError};

use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::rate_limiter::Limits;
use crate::virtio::update::{self, UpdateResult};
use crate::virtio::worker::{Backend, Io};
use pair::Pair;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::Shared;
use std::io;
use std::sync::Arc;
use vmm_sys_util::epoll::EventSet;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;
/// Queues of a pair.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// The first pair has this one, too.
const CONTROL: usize = 2;
/// Frames in one direction before the other and the rest get a turn.
const BUDGET: usize = 256;
/// Commands before the rest gets a turn.
const COMMAND_BUDGET: usize = 16;
/// The least MTU that a driver has to accept (§5.1.4.1).
pub const MTU_MIN: u16 = 68;
/// The most pairs of queues: one for each vCPU of a large machine.
pub const MAX_QUEUE_PAIRS: u16 = 32;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The card's address.
    pub mac: MacAddress,
    /// Largest packet without Ethernet header.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// How much may pass each way, over all queues together.
    #[serde(default)]
    pub limits: NetLimits,
}

fn default_mtu() -> u16 {
    1500
}

/// How much may pass each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetLimits {
    /// To the guest.
    pub receive: Limits,
    /// From the guest.
    pub transmit: Limits,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for, with the limits as they are now.
    pub config: Config,
    /// Pairs of queues that there are.
    pub queue_pairs: u16,
    /// Whether the cable is in.
    pub link_up: bool,
    /// What the driver has set.
    pub driver: DriverState,
}

/// Why a network card could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No driver accepts this MTU.
    #[error("MTU {0} is below {MTU_MIN}")]
    Mtu(u16),
    /// There are no queues, or too many.
    #[error("{0} pairs of queues; use 1 to {MAX_QUEUE_PAIRS}")]
    Pairs(usize),
    /// The saved card had another number of queues.
    #[error("the saved card has {saved} pairs of queues, {active} of them in use; this one has {own}")]
    SavedPairs {
        /// Pairs that it had.
        saved: u16,
        /// Pairs in use.
        active: u16,
        /// Pairs of the new one.
        own: u16,
    },
    /// No timer or event descriptor.
    #[error("cannot get timers and event descriptors for the network card")]
    Timer(#[source] io::Error),
}

/// A change while the guest runs (`PATCH /devices/ID`). What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Put the cable in or pull it out.
    pub link_up: Option<bool>,
    /// Replace all limits.
    pub limits: Option<NetLimits>,
    /// Ask the driver to announce itself to the network, as after a move to another host (§5.1.6.5.4).
    pub announce: bool,
}

/// The network card: one of its pairs of queues and what it shares with the others. The first pair speaks for all.
pub struct Net {
    config: Config,
    shared: Arc<Shared>,
    metrics: Arc<NetMetrics>,
    pair: Pair,
    siblings: Vec<Net>,
}

impl Net {
    /// Makes a network card with a pair of queues for each queue of the host's link.
    pub fn new(config: Config, taps: Vec<Tap>) -> Result<Self, NetError> {
        let shared = Arc::new(Shared::new(taps, &config)?);
        let pairs = shared.pairs();
        let metrics = Arc::new(NetMetrics::new(pairs));
        let of_pair = |index, siblings| Self {
            config: config.clone(),
            shared: shared.clone(),
            metrics: metrics.clone(),
            pair: Pair::new(index, shared.clone(), metrics.pair(index)),
            siblings,
        };
        let siblings = (1..pairs).map(|index| of_pair(index, Vec::new())).collect();
        Ok(of_pair(0, siblings))
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State, taps: Vec<Tap>) -> Result<Self, NetError> {
        let net = Self::new(state.config.clone(), taps)?;
        net.shared.restore(state)?;
        Ok(net)
    }
}

impl Backend for Net {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn features(&self) -> u64 {
        features::offered(self.shared.known_offloads(), self.shared.pairs())
    }

    fn queue_sizes(&self) -> Vec<u16> {
        // The last is the control queue, unless the driver knows of one pair only.
        vec![QUEUE_SIZE; 2 * usize::from(self.shared.pairs()) + 1]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.shared.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn take_siblings(&mut self) -> Vec<Self> {
        std::mem::take(&mut self.siblings)
    }

    fn group(&self, queue: u16, features: u64) -> usize {
        match features::pairs(features, self.shared.pairs()) {
            pairs if queue < 2 * pairs => usize::from(queue / 2),
            _ => 0,
        }
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        if self.pair.index() == 0 {
            self.shared.prepare(io.features)?;
        }
        self.pair.start(self.config.mtu, io)
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        match queue {
            RECEIVE => self.pair.receive(io),
            TRANSMIT => self.pair.transmit(io),
            CONTROL if io.has_feature(features::CTRL_VQ) => {
                self.shared.serve_commands(CONTROL, io, &self.metrics.commands)
            }
            // A driver that knows of one pair has set up more.
            _ => {}
        }
    }

    fn event(&mut self, token: u32, events: EventSet, io: &mut Io) {
        self.pair.event(token, events, io);
    }

    fn quiesce(&mut self, io: &mut Io) {
        self.pair.quiesce(io);
    }

    fn update(&mut self, update: Value, io: Option<&mut Io>) -> UpdateResult {
        self.shared.update(update::parse(update)?, io)
    }

    fn reset(&mut self) {
        self.pair.reset();
        if self.pair.index() == 0 {
            self.shared.set_driver(DriverState::new(self.config.mac));
        }
    }

    fn save(&self) -> State {
        self.shared.save(&self.config)
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "command_tests.rs"]
mod command_tests;

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod pairs_tests;

#[cfg(test)]
mod test_network;

#[cfg(test)]
#[path = "macvtap_tests.rs"]
mod macvtap_tests;

#[cfg(test)]
#[path = "frames_tests.rs"]
mod frames_tests;
