//! Counters that a device's worker increments and anyone may read at any time.

use serde::{Serialize, Serializer};
use std::sync::atomic::{AtomicU64, Ordering};

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
