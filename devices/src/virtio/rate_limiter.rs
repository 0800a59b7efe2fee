//! Limits for how much a device may do: token buckets for bytes and for operations.
//!
//! A device asks [`RateLimiter::ready`] before it takes a request and tells [`RateLimiter::spend`] what the request was. One
//! request may overdraw a bucket, so requests larger than the bucket pass, too; the next one waits until the debt is
//! paid. Then the limiter's descriptor is readable. So in any stretch of time `t`, what passes without the last request
//! is less than the burst and what comes in during `t`.
//!
//! Queues of one device that are served by several threads share their buckets and each have a descriptor of their
//! own ([`RateLimiter::share`]).

use serde::{Deserialize, Serialize};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use vmm_sys_util::timerfd::TimerFd;

/// Parts of a token that arithmetic is done in: with a rate of N tokens a second, N of them come in each nanosecond.
const PARTS: i128 = 1_000_000_000;
/// Without a burst of the user's choice a bucket holds a tenth of what comes in a second: enough to ride out the
/// scheduling of the host, too little to notice.
const BURST_DIVISOR: u64 = 10;
/// How long the timer waits before it asks again: the limits may have been changed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What the user allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<NonZeroU64>,
    /// Requests or frames per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_per_second: Option<NonZeroU64>,
    /// Bytes that may pass at once after a time of rest; a tenth of a second's by default. Only with a rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_burst: Option<NonZeroU64>,
    /// Requests or frames that may pass at once after a time of rest; a tenth of a second's by default. Only with a
    /// rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations_burst: Option<NonZeroU64>,
}

/// A burst that is part of no limit: there is a rate missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("`{0}_burst` is {1}: set `{0}_per_second`, too")]
pub struct BurstAlone(
    /// Of what: `bytes` or `operations`.
    pub &'static str,
    /// The burst.
    pub NonZeroU64,
);

impl Limits {
    /// Whether they mean something. Callers ask before they put limits of a user to work.
    pub fn check(&self) -> Result<(), BurstAlone> {
        for (name, burst, rate) in [
            ("bytes", self.bytes_burst, self.bytes_per_second),
            ("operations", self.operations_burst, self.operations_per_second),
        ] {
            if let (Some(burst), None) = (burst, rate) {
                return Err(BurstAlone(name, burst));
            }
        }
        Ok(())
    }
}

/// One bucket. Its clock is nanoseconds since the bucket was made, full.
#[derive(Debug, Clone)]
struct Bucket {
    rate: NonZeroU64,
    /// The most it holds, in [`PARTS`] of a token. Below 2⁹⁴.
    capacity: i128,
    /// In [`PARTS`] of a token; negative while in debt.
    balance: i128,
    last: u64,
}

impl Bucket {
    fn new(rate: NonZeroU64, burst: Option<NonZeroU64>) -> Self {
        let burst = burst.map_or_else(|| (rate.get() / BURST_DIVISOR).max(1), NonZeroU64::get);
        let capacity = i128::from(burst) * PARTS;
        Self {
            rate,
            capacity,
            balance: capacity,
            last: 0,
        }
    }

    /// Adds what has come in until `now`. A clock that goes back adds nothing, and nothing twice.
    fn refill(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        // Up to 2¹²⁸ saturates, far above any capacity.
        let added = i128::from(elapsed).saturating_mul(i128::from(self.rate.get()));
        self.balance = self.balance.saturating_add(added).min(self.capacity);
    }

    fn spend(&mut self, tokens: u64) {
        self.balance = self.balance.saturating_sub(i128::from(tokens) * PARTS);
    }

    /// Nanoseconds until there is something in the bucket; zero if there is.
    fn wait(&self) -> u64 {
        let missing = 1_i128.saturating_sub(self.balance).max(0).unsigned_abs();
        u64::try_from(missing.div_ceil(u128::from(self.rate.get()))).unwrap_or(u64::MAX)
    }
}

/// The buckets of one device.
#[derive(Debug)]
struct Buckets {
    start: Instant,
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl Buckets {
    fn new(limits: Limits) -> Self {
        let bucket = |rate: Option<_>, burst| rate.map(|rate| Bucket::new(rate, burst));
        Self {
            start: Instant::now(),
            bytes: bucket(limits.bytes_per_second, limits.bytes_burst),
            operations: bucket(limits.operations_per_second, limits.operations_burst),
        }
    }

    /// How long the next request has to wait.
    fn wait(&mut self) -> Duration {
        // Enough for five centuries.
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut longest = 0;
        for bucket in [&mut self.bytes, &mut self.operations].into_iter().flatten() {
            bucket.refill(now);
            longest = longest.max(bucket.wait());
        }
        Duration::from_nanos(longest)
    }

    fn spend(&mut self, bytes: u64) {
        if let Some(bucket) = &mut self.bytes {
            bucket.spend(bytes);
        }
        if let Some(bucket) = &mut self.operations {
            bucket.spend(1);
        }
    }
}

/// Limits at work.
pub struct RateLimiter {
    buckets: Arc<Mutex<Buckets>>,
    timer: TimerFd,
    armed: bool,
}

impl RateLimiter {
    /// Puts limits to work. There is nothing to put if there are none.
    pub fn new(limits: Limits) -> io::Result<Option<Self>> {
        match limits.bytes_per_second.or(limits.operations_per_second) {
            Some(_) => Self::adjustable(limits).map(Some),
            None => Ok(None),
        }
    }

    /// Puts limits to work that may be [`set`](Self::set) later, if there are none at first.
    pub fn adjustable(limits: Limits) -> io::Result<Self> {
        Ok(Self {
            buckets: Arc::new(Mutex::new(Buckets::new(limits))),
            timer: TimerFd::new()?,
            armed: false,
        })
    }

    /// Changes the limits for all that share them. Who waits at present notices within a second.
    pub fn set(&self, limits: Limits) {
        *self.buckets() = Buckets::new(limits);
    }

    /// The same limits for another thread: both together may do what one alone might.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            buckets: self.buckets.clone(),
            timer: TimerFd::new()?,
            armed: false,
        })
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another request may be taken. If not, the descriptor will tell when to ask again.
    pub fn ready(&mut self) -> bool {
        let wait = self.buckets().wait();
        if wait.is_zero() {
            return true;
        }
        if !self.armed {
            // A timer that cannot be set must not stop the device for ever.
            self.armed = self.timer.reset(wait.min(LONGEST_WAIT), None).is_ok();
        }
        !self.armed
    }

    /// A request with this many bytes was taken.
    pub fn spend(&mut self, bytes: u64) {
        self.buckets().spend(bytes);
    }

    /// Readable when [`ready`](Self::ready) should be asked again.
    pub fn fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }

    /// To be called when the descriptor is readable.
    pub fn elapsed(&mut self) {
        if std::mem::take(&mut self.armed) {
            // It is readable, so this does not block.
            let _ = self.timer.wait();
        }
    }
}

#[cfg(test)]
#[path = "rate_limiter_tests.rs"]
mod tests;
