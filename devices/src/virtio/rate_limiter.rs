//! Limits for how much a device may do: token buckets for bytes and for operations.
//!
//! A device asks [`RateLimiter::ready`] before it takes a request and tells [`RateLimiter::spend`] what the request was. One
//! request may overdraw a bucket, so requests larger than the bucket pass, too; the next one waits until the debt is
//! paid. Then the limiter's descriptor is readable.

use serde::{Deserialize, Serialize};
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};
use vmm_sys_util::timerfd::TimerFd;

/// Parts of a token that arithmetic is done in: with a rate of N tokens a second, N of them come in each nanosecond.
const PARTS: i128 = 1_000_000_000;
/// A bucket holds a tenth of what comes in a second: enough to ride out the scheduling of the host, too little to notice.
const BURST_DIVISOR: u64 = 10;

/// What the user allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes per second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Requests or frames per second.
    pub operations_per_second: Option<NonZeroU64>,
}

/// One bucket.
#[derive(Debug, Clone)]
struct Bucket {
    rate: NonZeroU64,
    /// In [`PARTS`] of a token; negative while in debt.
    balance: i128,
    last: Instant,
}

impl Bucket {
    fn new(rate: NonZeroU64, now: Instant) -> Self {
        let mut bucket = Self {
            rate,
            balance: 0,
            last: now,
        };
        bucket.balance = bucket.capacity();
        bucket
    }

    fn capacity(&self) -> i128 {
        i128::from((self.rate.get() / BURST_DIVISOR).max(1)) * PARTS
    }

    fn refill(&mut self, now: Instant) {
        // Below 2⁹⁶ nanoseconds times 2⁶⁴ would overflow; a century of them does not.
        let elapsed = now
            .saturating_duration_since(self.last)
            .as_nanos()
            .min(u128::from(u64::MAX));
        let added = (elapsed as i128).saturating_mul(i128::from(self.rate.get()));
        self.balance = self.balance.saturating_add(added).min(self.capacity());
        self.last = now;
    }

    fn spend(&mut self, tokens: u64) {
        self.balance = self.balance.saturating_sub(i128::from(tokens) * PARTS);
    }

    /// How long until there is something in the bucket.
    fn wait(&self) -> Duration {
        let missing = (1 - self.balance).max(0) as u128;
        let nanos = missing.div_ceil(u128::from(self.rate.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Limits at work.
pub struct RateLimiter {
    buckets: [Option<Bucket>; 2],
    timer: TimerFd,
    armed: bool,
}

impl RateLimiter {
    /// Puts limits to work. There is nothing to put if there are none.
    pub fn new(limits: Limits) -> io::Result<Option<Self>> {
        let now = Instant::now();
        let bucket = |rate: Option<NonZeroU64>| rate.map(|rate| Bucket::new(rate, now));
        let buckets = [
            bucket(limits.bytes_per_second),
            bucket(limits.operations_per_second),
        ];
        if buckets.iter().all(Option::is_none) {
            return Ok(None);
        }
        Ok(Some(Self {
            buckets,
            timer: TimerFd::new()?,
            armed: false,
        }))
    }

    /// Whether another request may be taken. If not, the descriptor will tell when to ask again.
    pub fn ready(&mut self) -> bool {
        let wait = self.wait_at(Instant::now());
        if wait.is_zero() {
            return true;
        }
        if !self.armed {
            // A timer that cannot be set must not stop the device for ever.
            self.armed = self.timer.reset(wait, None).is_ok();
        }
        !self.armed
    }

    fn wait_at(&mut self, now: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        for bucket in self.buckets.iter_mut().flatten() {
            bucket.refill(now);
            longest = longest.max(bucket.wait());
        }
        longest
    }

    /// A request with this many bytes was taken.
    pub fn spend(&mut self, bytes: u64) {
        let [by_bytes, by_operations] = &mut self.buckets;
        if let Some(bucket) = by_bytes {
            bucket.spend(bytes);
        }
        if let Some(bucket) = by_operations {
            bucket.spend(1);
        }
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
