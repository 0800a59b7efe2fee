//! Counters and histograms that a device's worker fills and anyone may read at any time.

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows (it wraps after 2⁶⁴). Serializes as that number.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Counter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// A number as it was last set. Serializes as that number.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Serialize for Gauge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.get())
    }
}

/// Buckets of a [`Histogram`]: the last but one ends at 2²² microseconds, four seconds.
const BUCKETS: usize = 24;

/// How long something took, in buckets of powers of two.
///
/// Serializes as `{"count", "sum_us", "log2_us"}`: entry *i* of `log2_us` counts what took less than 2^i microseconds
/// (and no less than the entry before), the last of all 24 entries everything that took longer. Empty buckets at the end
/// are left out. Readers may see a sum that is ahead of the buckets by what is being counted at that moment.
#[derive(Debug, Default)]
pub struct Histogram {
    sum_us: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Histogram {
    /// Counts something that took this long.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
        // The number of significant bits: 0 has none, 1 has one, 2 and 3 have two.
        let index = (u64::BITS - us.leading_zeros()) as usize;
        if let Some(bucket) = self.buckets.get(index.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    /// Microseconds in all.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }

    /// The buckets up to the last one that is not empty.
    pub fn counts(&self) -> Vec<u64> {
        let mut counts: Vec<u64> = self
            .buckets
            .iter()
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .collect();
        let len = counts
            .iter()
            .rposition(|count| *count > 0)
            .map_or(0, |last| last + 1);
        counts.truncate(len);
        counts
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let counts = self.counts();
        let mut fields = serializer.serialize_struct("Histogram", 3)?;
        fields.serialize_field("count", &counts.iter().sum::<u64>())?;
        fields.serialize_field("sum_us", &self.sum_us())?;
        fields.serialize_field("log2_us", &counts)?;
        fields.end()
    }
}

/// A device's counters, whatever they are.
pub trait Metrics: Send + Sync {
    /// All counters as a JSON object.
    fn snapshot(&self) -> serde_json::Value;
}

impl<T: Serialize + Send + Sync> Metrics for T {
    fn snapshot(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
