//! How long the start of this process took, for `GET /metrics` and for the benchmarks.

use std::sync::atomic::{AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};

use crate::control::state::BootTimes;

/// Microseconds of the monotonic clock.
#[must_use]
pub fn now_us() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_nsec().unsigned_abs() / 1000
    })
}

/// Moments of the start.
pub struct BootClock {
    /// When the process was started, as its parent saw it, if it said so.
    started_us: Option<u64>,
    main_us: u64,
    loaded_us: AtomicU64,
    built_us: AtomicU64,
    first_run_us: AtomicU64,
}

impl BootClock {
    /// Starts to count. `started_us` is the monotonic clock when the parent started this process.
    #[must_use]
    pub fn new(started_us: Option<u64>) -> Self {
        let none = || AtomicU64::new(0);
        Self {
            started_us,
            main_us: now_us(),
            loaded_us: none(),
            built_us: none(),
            first_run_us: none(),
        }
    }

    /// Kernel, initrds and tables are in memory.
    pub fn loaded(&self) {
        self.loaded_us.store(now_us(), Ordering::Relaxed);
    }

    /// Everything is ready to run.
    pub fn built(&self) {
        self.built_us.store(now_us(), Ordering::Relaxed);
    }

    /// The boot processor is about to enter the guest. Only the first call counts.
    pub fn first_run(&self) {
        let _ = self
            .first_run_us
            .compare_exchange(0, now_us(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The times so far.
    #[must_use]
    pub fn times(&self) -> BootTimes {
        let since = |start: u64, moment: &AtomicU64| match moment.load(Ordering::Relaxed) {
            0 => None,
            time => Some(time.saturating_sub(start)),
        };
        BootTimes {
            first_run_us: since(self.started_us.unwrap_or(self.main_us), &self.first_run_us),
            first_run_from_main_us: since(self.main_us, &self.first_run_us),
            built_us: since(self.main_us, &self.built_us).unwrap_or(0),
            loaded_us: since(self.main_us, &self.loaded_us).unwrap_or(0),
        }
    }
}
