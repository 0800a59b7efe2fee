//! What all pairs of queues of a card have in common: what the driver has set by commands of the control queue, and what
//! the host has set while the card works. The pairs' threads read it, whoever changes it wakes them.

use super::control::{self, Command};
use super::features;
use super::filter::{Filter, is_multicast};
use super::mac::MacAddress;
use super::metrics::CommandMetrics;
use super::tap::{Offloads, Tap};
use super::{COMMAND_BUDGET, Config, MAX_QUEUE_PAIRS, MTU_MIN, NetError, NetLimits, State, Update};
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::rate_limiter::RateLimiter;
use crate::virtio::update::{UpdateError, UpdateResult, invalid};
use crate::virtio::worker::Io;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Offsets in the configuration space, and bits of the status there (§5.1.4).
const MAC_OFFSET: usize = 0;
const STATUS_OFFSET: usize = 6;
const STATUS_LINK_UP: u16 = 1;
const STATUS_ANNOUNCE: u16 = 2;

/// What the driver has set by commands of the control queue. A reset forgets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriverState {
    /// Which frames it wants to see.
    pub filter: Filter,
    /// Pairs of queues in use.
    pub active_pairs: u16,
    /// What it takes, as feature bits, if not all that it accepted.
    pub offloads: Option<u64>,
    /// It is asked to announce itself and has not done so.
    pub announce: bool,
}

impl DriverState {
    /// Of a driver that has said nothing yet.
    pub fn new(mac: MacAddress) -> Self {
        Self {
            filter: Filter::new(mac.0),
            active_pairs: 1,
            offloads: None,
            announce: false,
        }
    }
}

/// The limits at work, of which each pair has its share.
struct Limiters {
    limits: NetLimits,
    receive: Option<RateLimiter>,
    transmit: Option<RateLimiter>,
    /// Counts the changes.
    generation: u64,
}

impl Limiters {
    fn new(limits: NetLimits, generation: u64) -> io::Result<Self> {
        Ok(Self {
            limits,
            receive: RateLimiter::new(limits.receive)?,
            transmit: RateLimiter::new(limits.transmit)?,
            generation,
        })
    }
}

/// One pair's share of the limits.
#[derive(Default)]
pub(super) struct Share {
    pub(super) receive: Option<RateLimiter>,
    pub(super) transmit: Option<RateLimiter>,
    generation: Option<u64>,
}

/// See the module.
pub(super) struct Shared {
    /// The queues of the host's link, one for each pair.
    pub(super) taps: Vec<Tap>,
    pub(super) space: Arc<ConfigSpace>,
    driver: RwLock<DriverState>,
    link_up: AtomicBool,
    limiters: Mutex<Limiters>,
    /// One for each pair: signalled when something has changed.
    wakes: Vec<EventFd>,
}

impl Shared {
    pub(super) fn new(taps: Vec<Tap>, config: &Config) -> Result<Self, NetError> {
        let &Config { mac, mtu, limits } = config;
        if mtu < MTU_MIN {
            return Err(NetError::Mtu(mtu));
        }
        let pairs = match u16::try_from(taps.len()) {
            Ok(pairs @ 1..=MAX_QUEUE_PAIRS) => pairs,
            _ => return Err(NetError::Pairs(taps.len())),
        };
        let words = [STATUS_LINK_UP, pairs, mtu].map(u16::to_le_bytes);
        let wake = |_: &Tap| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC);
        Ok(Self {
            space: Arc::new(ConfigSpace::new([&mac.0[..], words.as_flattened()].concat())),
            driver: RwLock::new(DriverState::new(mac)),
            link_up: AtomicBool::new(true),
            limiters: Mutex::new(Limiters::new(limits, 0).map_err(NetError::Timer)?),
            wakes: taps
                .iter()
                .map(wake)
                .collect::<io::Result<_>>()
                .map_err(NetError::Timer)?,
            taps,
        })
    }

    /// Number of pairs.
    pub(super) fn pairs(&self) -> u16 {
        // As many as taps, whose number was checked.
        self.taps.len() as u16
    }

    /// What the host's link can leave undone; its queues are alike.
    pub(super) fn known_offloads(&self) -> Offloads {
        self.taps.first().map(Tap::offloads).unwrap_or_default()
    }

    /// What the driver has set.
    pub(super) fn driver(&self) -> RwLockReadGuard<'_, DriverState> {
        self.driver.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the driver has set.
    fn change<T>(&self, change: impl FnOnce(&mut DriverState) -> T) -> T {
        change(&mut self.driver.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces what the driver has set: it is gone, or comes back from a snapshot.
    pub(super) fn set_driver(&self, state: DriverState) {
        self.space.update(MAC_OFFSET, &state.filter.mac);
        self.change(|driver| *driver = state);
        self.show_status();
    }

    /// The status in the configuration space follows link and announcement.
    fn show_status(&self) {
        let mut status = 0;
        if self.link_up() {
            status |= STATUS_LINK_UP;
        }
        if self.driver().announce {
            status |= STATUS_ANNOUNCE;
        }
        self.space.update(STATUS_OFFSET, &status.to_le_bytes());
    }

    pub(super) fn link_up(&self) -> bool {
        self.link_up.load(Ordering::Acquire)
    }

    /// Pulls the cable out, or puts it in. Returns whether that changes something; then the driver is to be told.
    pub(super) fn set_link(&self, up: bool) -> bool {
        if self.link_up.swap(up, Ordering::AcqRel) == up {
            return false;
        }
        // The host's end of a tap sees it, too; that of other links drops frames and does not.
        if let Some(Err(error)) = self.taps.first().map(|tap| tap.set_carrier(up)) {
            tracing::debug!(%error, "the host's link does not follow the guest's");
        }
        self.show_status();
        self.wake();
        true
    }

    /// Asks the driver to announce itself to the network, as after a move to another host.
    pub(super) fn ask_to_announce(&self) {
        self.change(|driver| driver.announce = true);
        self.show_status();
    }

    fn limiters(&self) -> MutexGuard<'_, Limiters> {
        self.limiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limits(&self) -> NetLimits {
        self.limiters().limits
    }

    /// Changes the limits.
    pub(super) fn set_limits(&self, limits: NetLimits) -> io::Result<()> {
        let mut limiters = self.limiters();
        *limiters = Limiters::new(limits, limiters.generation + 1)?;
        drop(limiters);
        self.wake();
        Ok(())
    }

    /// The limits as they are now, unless `old` has them.
    pub(super) fn share(&self, old: &Share) -> io::Result<Option<Share>> {
        let limiters = self.limiters();
        if old.generation == Some(limiters.generation) {
            return Ok(None);
        }
        let share = |limiter: &Option<RateLimiter>| limiter.as_ref().map(RateLimiter::share).transpose();
        Ok(Some(Share {
            receive: share(&limiters.receive)?,
            transmit: share(&limiters.transmit)?,
            generation: Some(limiters.generation),
        }))
    }

    /// Signalled when a pair has to look for what has changed.
    pub(super) fn wake_event(&self, pair: u16) -> Option<&EventFd> {
        self.wakes.get(usize::from(pair))
    }

    fn wake(&self) {
        for wake in &self.wakes {
            // Fails only when the counter is full, and then it is signalled already.
            let _ = wake.write(1);
        }
    }

    /// Makes the host's link what a driver with these features expects of it.
    pub(super) fn prepare(&self, accepted: u64) -> io::Result<()> {
        let driver = self.driver();
        let offloads = driver.offloads.unwrap_or(accepted);
        if let Some(first) = self.taps.first() {
            first.set_offloads(features::offloads(offloads))?;
        }
        for (tap, pair) in self.taps.iter().zip(0..) {
            tap.attach(pair < driver.active_pairs)?;
        }
        Ok(())
    }

    /// Carries out a command of a driver with these features. Returns whether it could be.
    pub(super) fn execute(&self, command: Command, accepted: u64) -> bool {
        match command {
            Command::Mode(mode, on) => self.change(|driver| driver.filter.set(mode, on)),
            Command::Tables { unicast, multicast } => self.change(|driver| {
                driver.filter.unicast = unicast;
                driver.filter.multicast = multicast;
            }),
            Command::Address(address) if is_multicast(address) => return false,
            Command::Address(address) => {
                self.change(|driver| driver.filter.mac = address);
                self.space.update(MAC_OFFSET, &address);
            }
            Command::Announced => {
                self.change(|driver| driver.announce = false);
                self.show_status();
            }
            Command::Pairs(pairs) => return self.set_pairs(pairs),
            Command::Offloads(offloads) => return self.set_offloads(offloads, accepted),
        }
        true
    }

    /// Serves the control queue.
    pub(super) fn serve_commands(&self, queue: usize, io: &mut Io, metrics: &CommandMetrics) {
        let features = io.features;
        io.serve(queue, COMMAND_BUDGET, |chain, ram| {
            let command = Command::read(std::mem::take(&mut chain.readable), ram, features);
            let done = command.is_some_and(|command| self.execute(command, features));
            let (answer, counter) = match done {
                true => (control::OK, &metrics.commands),
                false => (control::ERR, &metrics.refused_commands),
            };
            counter.increment();
            u32::from(chain.writable.write(ram, &[answer]).is_ok())
        });
    }

    /// Makes a change from outside. The answer says what holds now.
    pub(super) fn update(&self, update: Update, io: Option<&mut Io>) -> UpdateResult {
        let announces = |io: &&mut Io| io.has_feature(features::GUEST_ANNOUNCE);
        if update.announce && !io.as_ref().is_some_and(announces) {
            let reason = "the guest's driver does not announce itself when asked, or is not there";
            return Err(UpdateError::Refused(reason.to_owned()));
        }
        if let Some(limits) = update.limits {
            limits.receive.check().map_err(invalid("limits.receive"))?;
            limits.transmit.check().map_err(invalid("limits.transmit"))?;
            self.set_limits(limits).map_err(|source| UpdateError::Failed {
                what: "get a timer for the limits",
                source,
            })?;
        }
        let mut changed = update.link_up.is_some_and(|up| self.set_link(up));
        if update.announce {
            self.ask_to_announce();
            changed = true;
        }
        if let Some(io) = io.filter(|_| changed) {
            io.interrupt.config();
        }
        Ok(json!({
            "link_up": self.link_up(),
            "limits": self.limits(),
            "driver": &*self.driver(),
        }))
    }

    /// What a snapshot holds of a card with this configuration.
    pub(super) fn save(&self, config: &Config) -> State {
        State {
            config: Config {
                limits: self.limits(),
                ..config.clone()
            },
            queue_pairs: self.pairs(),
            link_up: self.link_up(),
            driver: self.driver().clone(),
        }
    }

    /// Takes over what a snapshot holds, apart from the configuration.
    pub(super) fn restore(&self, state: State) -> Result<(), NetError> {
        let (own, active) = (self.pairs(), state.driver.active_pairs);
        if state.queue_pairs != own || !(1..=own).contains(&active) {
            return Err(NetError::SavedPairs {
                saved: state.queue_pairs,
                active,
                own,
            });
        }
        self.set_driver(state.driver);
        self.set_link(state.link_up);
        Ok(())
    }

    fn set_offloads(&self, offloads: u64, accepted: u64) -> bool {
        // Only what was agreed on may be switched on again (§5.1.6.5.6.2).
        if offloads & !features::guest_offloads(accepted) != 0 {
            return false;
        }
        let set = self
            .taps
            .first()
            .is_some_and(|tap| tap.set_offloads(features::offloads(offloads)).is_ok());
        if set {
            self.change(|driver| driver.offloads = Some(offloads));
        }
        set
    }

    /// Uses the first `pairs` pairs. The host must give no frames to a queue that nobody reads, so a queue is attached
    /// last and detached first of all that is seen of it.
    fn set_pairs(&self, pairs: u16) -> bool {
        if pairs == 0 || usize::from(pairs) > self.taps.len() {
            return false;
        }
        let attach = |tap: &Tap, pair: u16| tap.attach(pair < pairs);
        let attached = self
            .taps
            .iter()
            .zip(0..)
            .try_for_each(|(tap, pair)| attach(tap, pair));
        if let Err(error) = &attached {
            tracing::debug!(%error, pairs, "the host's link cannot have so many queues in use");
            return false;
        }
        self.change(|driver| driver.active_pairs = pairs);
        self.wake();
        true
    }
}
