//! The network card (virtio 1.3 §5.1) on a tap, with checksum and segmentation offloads both ways and mergeable receive
//! buffers. One pair of queues; frames move by one system call each, without a copy in this process.

pub mod header;
pub mod mac;
mod receive;
pub mod tap;

pub use mac::MacAddress;
pub use tap::{Tap, TapError};

use crate::metrics::{Counter, Metrics};
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::rate_limiter::{Limits, RateLimiter};
use crate::virtio::worker::{Backend, Io};
use header::{HEADER_LEN, MAX_FRAME, feature};
use receive::{Outcome, Receiver};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;
/// Queue indexes.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
/// Frames in one direction before the other and the rest get a turn.
const BUDGET: usize = 256;
/// Token of the tap.
const TOKEN_TAP: u32 = 0;
/// Tokens of the limiters.
const TOKEN_RECEIVE_LIMITER: u32 = 1;
const TOKEN_TRANSMIT_LIMITER: u32 = 2;
/// The link is up (§5.1.4).
const STATUS_LINK_UP: u16 = 1;
/// The least MTU that a driver has to accept (§5.1.4.1).
const MTU_MIN: u16 = 68;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The card's address.
    pub mac: MacAddress,
    /// Largest packet without Ethernet header.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
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
    /// What the user asked for.
    pub config: Config,
    /// How much may pass.
    #[serde(default)]
    pub limits: NetLimits,
}

/// Why a network card could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// No driver accepts this MTU.
    #[error("MTU {0} is below {MTU_MIN}")]
    Mtu(u16),
    /// No timer for the limits.
    #[error("cannot get a timer for the network card's limits")]
    Timer(#[source] io::Error),
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct NetMetrics {
    /// Frames to the guest.
    pub received_frames: Counter,
    /// Bytes to the guest, without virtio headers.
    pub received_bytes: Counter,
    /// Frames for the guest that were lost for want of a buffer.
    pub receive_drops: Counter,
    /// Frames from the guest.
    pub transmitted_frames: Counter,
    /// Bytes from the guest, without virtio headers.
    pub transmitted_bytes: Counter,
    /// Frames from the guest that were malformed or that the host refused.
    pub transmit_drops: Counter,
}

/// The network card.
pub struct Net {
    config: Config,
    limits: NetLimits,
    tap: Tap,
    space: Arc<ConfigSpace>,
    metrics: Arc<NetMetrics>,
    receiver: Receiver,
    receive_limiter: Option<RateLimiter>,
    transmit_limiter: Option<RateLimiter>,
    /// The driver has no receive buffers, or has had what it may; a notification or the timer wakes us.
    receive_blocked: bool,
    /// The host takes no frames for the moment.
    transmit_blocked: bool,
    /// The link was deleted.
    tap_gone: bool,
}

impl Net {
    /// Makes a network card on a tap.
    pub fn new(config: Config, tap: Tap) -> Result<Self, NetError> {
        Self::with_limits(config, NetLimits::default(), tap)
    }

    /// The same with limits for what may pass.
    pub fn with_limits(config: Config, limits: NetLimits, tap: Tap) -> Result<Self, NetError> {
        if config.mtu < MTU_MIN {
            return Err(NetError::Mtu(config.mtu));
        }
        let queue_pairs: u16 = 1;
        let words = [STATUS_LINK_UP, queue_pairs, config.mtu];
        let space = [&config.mac.0[..], words.map(u16::to_le_bytes).as_flattened()].concat();
        Ok(Self {
            tap,
            space: Arc::new(ConfigSpace::new(space)),
            metrics: Arc::default(),
            receiver: Receiver::default(),
            receive_limiter: RateLimiter::new(limits.receive).map_err(NetError::Timer)?,
            transmit_limiter: RateLimiter::new(limits.transmit).map_err(NetError::Timer)?,
            config,
            limits,
            receive_blocked: false,
            transmit_blocked: false,
            tap_gone: false,
        })
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State, tap: Tap) -> Result<Self, NetError> {
        Self::with_limits(state.config, state.limits, tap)
    }

    /// Waits for the tap only as far as there is something to do with it, so that an idle driver costs nothing.
    fn watch_tap(&self, io: &Io) {
        if self.tap_gone {
            return;
        }
        let mut events = EventSet::empty();
        events.set(EventSet::IN, !self.receive_blocked);
        events.set(EventSet::OUT, self.transmit_blocked);
        if let Err(error) = io.modify(self.tap.fd(), TOKEN_TAP, events) {
            tracing::debug!(%error, "network device cannot wait for its tap");
        }
    }

    fn receive(&mut self, io: &mut Io) {
        let ram = io.memory.memory();
        let Some(queue) = io.queues.get_mut(RECEIVE) else {
            return;
        };
        let was_blocked = self.receive_blocked;
        self.receive_blocked = false;
        queue.disable_notification();
        for _ in 0..BUDGET {
            if self
                .receive_limiter
                .as_mut()
                .is_some_and(|limiter| !limiter.ready())
            {
                self.receive_blocked = true;
                break;
            }
            match self.receiver.receive(&self.tap, queue, &ram, &self.metrics) {
                Outcome::Frame(len) => {
                    if let Some(limiter) = &mut self.receive_limiter {
                        limiter.spend(len as u64);
                    }
                }
                Outcome::NoFrames => break,
                // Buffers may have arrived just before notifications were on again.
                Outcome::NoBuffers if queue.enable_notification() => queue.disable_notification(),
                Outcome::NoBuffers => {
                    self.receive_blocked = true;
                    break;
                }
            }
        }
        queue.signal();
        if was_blocked != self.receive_blocked {
            self.watch_tap(io);
        }
    }

    fn transmit(&mut self, io: &mut Io) {
        let ram = io.memory.memory();
        let Some(queue) = io.queues.get_mut(TRANSMIT) else {
            return;
        };
        let was_blocked = self.transmit_blocked;
        self.transmit_blocked = false;
        let mut sent = 0;
        'more: loop {
            queue.disable_notification();
            while sent < BUDGET {
                if self
                    .transmit_limiter
                    .as_mut()
                    .is_some_and(|limiter| !limiter.ready())
                {
                    break 'more;
                }
                let Some(chain) = queue.pop() else { break };
                let len = chain.readable.len();
                let valid = len > HEADER_LEN as u64 && len <= MAX_FRAME as u64;
                let iovecs = chain.readable.iovecs(&ram, len).ok().filter(|_| valid);
                // SAFETY: `ram` keeps the memory mapped during the call.
                let result = iovecs.map(|iovecs| unsafe { self.tap.send(&iovecs) });
                match result {
                    Some(Ok(_)) => {
                        if let Some(limiter) = &mut self.transmit_limiter {
                            limiter.spend(len);
                        }
                        self.metrics.transmitted_frames.increment();
                        self.metrics.transmitted_bytes.add(len - HEADER_LEN as u64);
                    }
                    Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        queue.undo_pop();
                        self.transmit_blocked = true;
                        break 'more;
                    }
                    // Malformed, or the link is down: lost, as on any network.
                    _ => self.metrics.transmit_drops.increment(),
                }
                queue.add_used(chain.head, 0);
                sent += 1;
            }
            if sent >= BUDGET {
                queue.wake_again();
                break;
            }
            if !queue.enable_notification() {
                break;
            }
        }
        queue.signal();
        if was_blocked != self.transmit_blocked {
            self.watch_tap(io);
        }
    }
}

impl Backend for Net {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn features(&self) -> u64 {
        header::offered(self.tap.offloads())
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        self.tap.set_offloads(header::offloads(io.features))?;
        self.receiver.mergeable = io.has_feature(feature::MRG_RXBUF);
        self.receiver.max_frame = header::max_frame(io.features, self.config.mtu);
        self.receive_blocked = false;
        self.transmit_blocked = false;
        self.tap_gone = false;
        for (limiter, token) in [
            (&self.receive_limiter, TOKEN_RECEIVE_LIMITER),
            (&self.transmit_limiter, TOKEN_TRANSMIT_LIMITER),
        ] {
            if let Some(limiter) = limiter {
                io.add(limiter.fd(), token, EventSet::IN)?;
            }
        }
        io.add(self.tap.fd(), TOKEN_TAP, EventSet::IN)
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        match queue {
            RECEIVE => self.receive(io),
            _ => self.transmit(io),
        }
    }

    fn event(&mut self, token: u32, events: EventSet, io: &mut Io) {
        match (token, &mut self.receive_limiter, &mut self.transmit_limiter) {
            (TOKEN_RECEIVE_LIMITER, Some(limiter), _) => {
                limiter.elapsed();
                return self.receive(io);
            }
            (TOKEN_TRANSMIT_LIMITER, _, Some(limiter)) => {
                limiter.elapsed();
                return self.transmit(io);
            }
            _ => {}
        }
        if events.contains(EventSet::OUT) {
            self.transmit(io);
        }
        if events.contains(EventSet::IN) {
            self.receive(io);
        }
        // A tap whose link was deleted signals an error for ever; without it there is nothing to wait for.
        if events.intersects(EventSet::ERROR | EventSet::HANG_UP) && !self.tap_gone {
            tracing::warn!("the network device's tap is gone");
            self.tap_gone = io.remove(self.tap.fd()).is_ok();
        }
    }

    fn quiesce(&mut self, io: &mut Io) {
        self.receiver.put_back(io.queues.get_mut(RECEIVE));
    }

    fn reset(&mut self) {
        self.receiver.forget();
    }

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
            limits: self.limits,
        }
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
