//! What a block device counts.

use super::file::Erase;
use super::in_flight::Work;
use crate::metrics::{Counter, Histogram};
use serde::Serialize;
use std::time::Duration;

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct BlockMetrics {
    /// Read requests completed.
    pub reads: Counter,
    /// Bytes read.
    pub read_bytes: Counter,
    /// How long reads took, from the queue and back.
    pub read_time: Histogram,
    /// Write requests completed.
    pub writes: Counter,
    /// Bytes written.
    pub written_bytes: Counter,
    /// How long writes took.
    pub write_time: Histogram,
    /// Flushes completed.
    pub flushes: Counter,
    /// How long flushes took.
    pub flush_time: Histogram,
    /// Discards completed.
    pub discards: Counter,
    /// Write-zeroes completed.
    pub zeroings: Counter,
    /// Requests that ended with an error.
    pub failures: Counter,
    /// Requests that were given up because the driver had reset the device.
    pub abandoned: Counter,
    /// Times that requests had to wait because of the limits.
    pub throttled: Counter,
}

impl BlockMetrics {
    /// Counts a request that has succeeded.
    pub(super) fn count(&self, work: &Work, took: Duration) {
        match work {
            Work::Transfer(transfer) if transfer.write => {
                self.writes.increment();
                self.written_bytes.add(transfer.len);
                self.write_time.observe(took);
            }
            Work::Transfer(transfer) => {
                self.reads.increment();
                self.read_bytes.add(transfer.len);
                self.read_time.observe(took);
            }
            Work::Flush => {
                self.flushes.increment();
                self.flush_time.observe(took);
            }
            Work::Erase(Erase::Discard, _) | Work::ByHand(Erase::Discard, ..) => self.discards.increment(),
            Work::Erase(..) | Work::ByHand(..) => self.zeroings.increment(),
            Work::Id(_) => {}
        }
    }
}
