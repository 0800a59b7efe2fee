//! The memory balloon (virtio 1.3 §5.5): takes memory from a guest that has some to spare, and tells how it uses it.
//!
//! The host sets a target; the driver takes pages from its own system until the balloon has that size and names them
//! (inflate), or gives some back (deflate). Besides, a driver that *reports* free pages gives them to the host without
//! being asked, and takes them back by touching them. Either way the pages go back to the host at once.
//!
//! *Hinting* is different: a driver may use a page again after it has hinted at it, and before it is told that the run
//! is over, so only a migration that knows what has been written since can make use of hints. Here a run measures how
//! much memory the guest has free; nothing is taken.

mod config;
mod hinting;
mod statistics;

use super::config_space::ConfigSpace;
use super::device::DeviceType;
use super::queue::Chain;
use super::update::{self, UpdateError, UpdateResult};
use super::worker::{Backend, Io};
use crate::discard::{PAGE, discard};
use crate::memory::Ram;
use crate::metrics::{Counter, Metrics};
use config::Space;
use hinting::Hinting;
use serde::Serialize;
use serde_json::{Value, json};
use statistics::Statistics;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

pub use config::{Config, HintingRun, State, Update};
pub use hinting::HintingState;
pub use statistics::GuestStatistics;

/// Entries of each queue: Linux hints at as many blocks as there is room for.
const QUEUE_SIZE: u16 = 256;
/// Requests served before other queues get a turn.
const BUDGET: usize = 64;
/// Pages in one request: Linux sends 256. What comes after these is not looked at.
const MAX_PAGES: usize = 4096;
/// Bytes of a page number.
const NUMBER: usize = 4;

/// Features (§5.5.3).
mod feature {
    pub(super) const STATISTICS: u32 = 1;
    pub(super) const DEFLATE_ON_OOM: u32 = 2;
    pub(super) const HINTING: u32 = 3;
    pub(super) const REPORTING: u32 = 5;
}

/// What a queue is for (§5.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Inflate,
    Deflate,
    Statistics,
    Hinting,
    Reporting,
}

impl Purpose {
    /// The specification gives queues fixed numbers; Linux counts only those that exist. Both are the same for a driver
    /// that takes all features, and differ only in where free pages are reported.
    fn of(queue: usize, io: &Io) -> Option<Self> {
        let optional = [
            (feature::STATISTICS, Self::Statistics),
            (feature::HINTING, Self::Hinting),
            (feature::REPORTING, Self::Reporting),
        ];
        let there = optional
            .into_iter()
            .filter(|(bit, _)| io.has_feature(*bit))
            .map(|(_, purpose)| purpose);
        let mut queues = [Self::Inflate, Self::Deflate].into_iter().chain(there);
        let reporting = (queue == 4 && io.has_feature(feature::REPORTING)).then_some(Self::Reporting);
        queues.nth(queue).or(reporting)
    }
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct BalloonMetrics {
    /// Target and size of the balloon.
    #[serde(flatten)]
    space: Space,
    /// Bytes that the driver put into the balloon.
    pub inflated_bytes: Counter,
    /// Bytes that it took out.
    pub deflated_bytes: Counter,
    /// Bytes that it reported free.
    pub reported_bytes: Counter,
    /// Bytes that the host took back, by either.
    pub discarded_bytes: Counter,
    /// Requests that named memory which the guest does not have, or which the host did not take back.
    pub failures: Counter,
    /// The last run of hints.
    pub hinting: HintingState,
    /// What the guest says of itself.
    pub guest: GuestStatistics,
}

impl BalloonMetrics {
    fn discard(&self, ram: &Ram, range: Range<u64>) {
        match discard(ram, range) {
            Ok(bytes) => self.discarded_bytes.add(bytes),
            Err(_) => self.failures.increment(),
        }
    }
}

/// The memory balloon.
pub struct Balloon {
    config: Config,
    space: Space,
    metrics: Arc<BalloonMetrics>,
    statistics: Statistics,
    hinting: Hinting,
    timer: TimerFd,
}

impl Balloon {
    /// Makes a balloon.
    pub fn new(config: Config) -> io::Result<Self> {
        let space = Space::new(config.target_bytes);
        let metrics = Arc::new(BalloonMetrics {
            space: space.clone(),
            ..Default::default()
        });
        let mut balloon = Self {
            statistics: Statistics::default(),
            hinting: Hinting::default(),
            timer: TimerFd::new()?,
            config,
            space,
            metrics,
        };
        balloon.set_interval()?;
        Ok(balloon)
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State) -> io::Result<Self> {
        let mut balloon = Self::new(state.config)?;
        balloon.space.set_actual_bytes(state.actual_bytes);
        balloon.statistics.hold(state.held_statistics);
        balloon.hinting.restore(state.hinting_run, &balloon.space);
        Ok(balloon)
    }

    fn set_interval(&mut self) -> io::Result<()> {
        let interval = Duration::from_secs(self.config.statistics_interval_s);
        let armed = match interval.is_zero() {
            true => self.timer.clear(),
            false => self.timer.reset(interval, Some(interval)),
        };
        armed.map_err(Into::into)
    }

    /// Page numbers that the driver put into the balloon.
    fn inflate(&self, chain: &mut Chain, ram: &Ram) {
        let mut pages = page_numbers(chain, ram);
        if pages.is_empty() {
            self.metrics.failures.increment();
        }
        self.metrics.inflated_bytes.add(pages.len() as u64 * PAGE);
        for run in runs(&mut pages) {
            self.metrics
                .discard(ram, u64::from(run.start) * PAGE..u64::from(run.end) * PAGE);
        }
    }

    /// Ranges that the driver reported free (§5.5.6.7): the device is to "write" to them.
    fn report(&self, chain: &Chain, ram: &Ram) {
        for segment in chain.writable.segments() {
            let start = segment.address.0;
            let end = start.saturating_add(u64::from(segment.len));
            self.metrics.reported_bytes.add(u64::from(segment.len));
            self.metrics.discard(ram, start..end);
        }
    }
}

/// The page numbers in a request.
fn page_numbers(chain: &mut Chain, ram: &Ram) -> Vec<u32> {
    let count = (chain.readable.len() / NUMBER as u64).min(MAX_PAGES as u64) as usize;
    let mut bytes = vec![0; count * NUMBER];
    match chain.readable.read(ram, &mut bytes) {
        Ok(()) => bytes
            .as_chunks::<NUMBER>()
            .0
            .iter()
            .map(|number| u32::from_le_bytes(*number))
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Joins adjacent pages, which drivers name one by one. The last number of all has no page after it and is left out: no
/// guest has 16 TiB.
fn runs(pages: &mut [u32]) -> Vec<Range<u32>> {
    pages.sort_unstable();
    let mut runs: Vec<Range<u32>> = Vec::new();
    for &page in pages.iter().filter(|page| **page < u32::MAX) {
        match runs.last_mut() {
            Some(run) if page <= run.end => run.end = run.end.max(page + 1),
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

impl Backend for Balloon {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Balloon
    }

    fn features(&self) -> u64 {
        let always = 1 << feature::STATISTICS | 1 << feature::HINTING;
        always
            | u64::from(self.config.deflate_on_oom) << feature::DEFLATE_ON_OOM
            | u64::from(self.config.reporting) << feature::REPORTING
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 5]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.bytes()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        io.add(self.timer.as_raw_fd(), 0, EventSet::IN)
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        match Purpose::of(queue, io) {
            Some(Purpose::Inflate) => io.serve(queue, BUDGET, |chain, ram| {
                self.inflate(chain, ram);
                0
            }),
            Some(Purpose::Deflate) => io.serve(queue, BUDGET, |chain, ram| {
                let pages = page_numbers(chain, ram).len() as u64;
                self.metrics.deflated_bytes.add(pages * PAGE);
                0
            }),
            Some(Purpose::Statistics) => {
                let ram = io.memory.clone();
                if let Some(queue) = io.queues.get_mut(queue) {
                    self.statistics.take(queue, &ram, &self.metrics.guest);
                }
            }
            Some(Purpose::Hinting) => {
                let mut over = false;
                io.serve(queue, BUDGET, |chain, ram| {
                    over |= self.hinting.take(chain, ram, &self.space, &self.metrics.hinting);
                    0
                });
                if over {
                    io.interrupt.config();
                }
            }
            Some(Purpose::Reporting) => io.serve(queue, BUDGET, |chain, ram| {
                self.report(chain, ram);
                0
            }),
            None => {}
        }
    }

    /// It is time for statistics.
    fn event(&mut self, _token: u32, _events: EventSet, io: &mut Io) {
        // Only fails when it is not ready, and then there is nothing to clear.
        let _ = self.timer.wait();
        let number = (0..io.queues.len()).find(|queue| Purpose::of(*queue, io) == Some(Purpose::Statistics));
        if let Some(queue) = number.and_then(|number| io.queues.get_mut(number)) {
            self.statistics.ask(queue);
        }
    }

    fn update(&mut self, update: Value, io: Option<&mut Io>) -> UpdateResult {
        let update: Update = update::parse(update)?;
        let mut changed = false;
        if let Some(target) = update.target_bytes {
            let most = self.config.memory_bytes;
            if target > most {
                let problem = format!("a balloon of {target} bytes is more than the guest has ({most})");
                return Err(UpdateError::Invalid(problem));
            }
            self.config.target_bytes = target;
            self.space.set_target_bytes(target);
            changed = true;
        }
        if let Some(interval) = update.statistics_interval_s {
            self.config.statistics_interval_s = interval;
            self.set_interval().map_err(|source| UpdateError::Failed {
                what: "set the timer of statistics",
                source,
            })?;
        }
        match update.hinting {
            Some(HintingRun::Start) => {
                if !io.as_ref().is_some_and(|io| io.has_feature(feature::HINTING)) {
                    let reason = "the guest's driver does not hint at free pages, or is not there";
                    return Err(UpdateError::Refused(reason.to_owned()));
                }
                self.hinting.begin(&self.space, &self.metrics.hinting);
                changed = true;
            }
            Some(HintingRun::Stop) => {
                self.hinting.end(&self.space);
                changed = true;
            }
            None => {}
        }
        if let Some(io) = io.filter(|_| changed) {
            io.interrupt.config();
        }
        Ok(json!({
            "target_bytes": self.space.target_bytes(),
            "actual_bytes": self.space.actual_bytes(),
            "statistics_interval_s": self.config.statistics_interval_s,
        }))
    }

    fn reset(&mut self) {
        self.space.set_actual_bytes(0);
        self.statistics.hold(None);
        self.hinting.end(&self.space);
    }

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
            actual_bytes: self.space.actual_bytes(),
            held_statistics: self.statistics.held(),
            hinting_run: self.hinting.run(),
        }
    }
}

#[cfg(test)]
#[path = "balloon_tests.rs"]
mod tests;
