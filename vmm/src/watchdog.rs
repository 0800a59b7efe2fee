//! The watchdog's place in the machine: what happens when the guest does not feed it.

use std::sync::{Arc, Mutex};

use devices::metrics::{Counter, Metrics};
use devices::pci::i6300esb;
use serde::Serialize;

use crate::config::WatchdogAction;
use crate::exit::{ExitReason, ExitReport};
use crate::lock::lock;

/// Its counters.
#[derive(Debug, Default, Serialize)]
struct WatchdogMetrics {
    /// How often the guest did not feed it in time.
    expirations: Counter,
}

/// Who lets it stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopper {
    /// The VM is paused.
    Pause = 1,
    /// A debugger has stopped the guest.
    Debugger = 2,
}

/// The watchdog and what it does.
pub struct Watchdog {
    device: Arc<Mutex<i6300esb::Watchdog>>,
    action: WatchdogAction,
    timer: i32,
    /// Who lets it stand still, a bit for each.
    stopped: Mutex<u8>,
    metrics: WatchdogMetrics,
}

impl Watchdog {
    /// A watchdog for the device that is on the bus.
    #[must_use]
    pub fn new(device: Arc<Mutex<i6300esb::Watchdog>>, action: WatchdogAction) -> Self {
        let timer = lock(&device).timer_fd();
        Self {
            device,
            action,
            timer,
            stopped: Mutex::default(),
            metrics: WatchdogMetrics::default(),
        }
    }

    /// Readable when [`elapsed`](Self::elapsed) has something to do.
    #[must_use]
    pub fn timer_fd(&self) -> i32 {
        self.timer
    }

    /// The timer ran out. Returns how the VM ends, if it does.
    #[must_use]
    pub fn elapsed(&self) -> Option<ExitReport> {
        if !lock(&self.device).elapsed() {
            return None;
        }
        self.metrics.expirations.increment();
        tracing::warn!(action = ?self.action, "the guest did not feed its watchdog");
        let reason = match self.action {
            WatchdogAction::Reset => ExitReason::Reset,
            WatchdogAction::Poweroff => ExitReason::Poweroff,
            WatchdogAction::Panic => ExitReason::Panic,
            WatchdogAction::None => return None,
        };
        Some(ExitReport::new(reason, "the guest did not feed its watchdog"))
    }

    /// Time stands still for the guest.
    pub fn pause(&self, stopper: Stopper) {
        let mut stopped = lock(&self.stopped);
        *stopped |= stopper as u8;
        lock(&self.device).pause();
    }

    /// And goes on, when nobody stops it any more.
    pub fn resume(&self, stopper: Stopper) {
        let mut stopped = lock(&self.stopped);
        let was = *stopped;
        *stopped &= !(stopper as u8);
        if was != 0 && *stopped == 0 {
            lock(&self.device).resume();
        }
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> serde_json::Value {
        self.metrics.snapshot()
    }
}
