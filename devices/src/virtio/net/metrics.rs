//! The card's counters.

use crate::metrics::Counter;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counters of one pair of queues. Each pair's are apart from the others', so that their threads do not wait for each
/// other's cache lines.
#[derive(Debug, Default, Serialize)]
#[repr(align(128))]
pub struct PairMetrics {
    /// Frames to the guest.
    pub received_frames: Counter,
    /// Bytes to the guest, without virtio headers.
    pub received_bytes: Counter,
    /// Frames for the guest that were lost: no buffer was large enough, or the link is down.
    pub receive_drops: Counter,
    /// Frames that the driver does not want to see, by its receive modes and address tables.
    pub receive_filtered: Counter,
    /// Times that the host had frames, or might have, and the driver no buffers.
    pub receive_waits: Counter,
    /// Frames from the guest.
    pub transmitted_frames: Counter,
    /// Bytes from the guest, without virtio headers.
    pub transmitted_bytes: Counter,
    /// Frames from the guest that were malformed, that the host refused, or that met a link that is down.
    pub transmit_drops: Counter,
    /// Times that the host took no more frames for the moment.
    pub transmit_waits: Counter,
    /// Times that a limit held frames back, in either direction.
    pub throttled: Counter,
}

impl PairMetrics {
    fn counters(&self) -> BTreeMap<String, u64> {
        let value = serde_json::to_value(self);
        value.and_then(serde_json::from_value).unwrap_or_default()
    }
}

/// Counters of the control queue.
#[derive(Debug, Default, Serialize)]
pub struct CommandMetrics {
    /// Commands that were carried out.
    pub commands: Counter,
    /// Commands that were refused.
    pub refused_commands: Counter,
}

/// Counters of a card: the sums of its pairs, and if there are several, each pair by itself in `pairs`.
#[derive(Debug, Default)]
pub struct NetMetrics {
    /// The control queue.
    pub commands: CommandMetrics,
    /// The pairs, in order.
    pub pairs: Vec<Arc<PairMetrics>>,
}

impl NetMetrics {
    /// Counters for so many pairs.
    pub fn new(pairs: u16) -> Self {
        Self {
            pairs: (0..pairs).map(|_| Arc::default()).collect(),
            ..Self::default()
        }
    }

    /// Counters of one pair.
    pub(super) fn pair(&self, index: u16) -> Arc<PairMetrics> {
        self.pairs.get(usize::from(index)).cloned().unwrap_or_default()
    }
}

impl Serialize for NetMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let pairs: Vec<_> = self.pairs.iter().map(|pair| pair.counters()).collect();
        let mut sums = BTreeMap::<_, u64>::new();
        for (name, count) in pairs.iter().flatten() {
            let sum = sums.entry(name).or_default();
            *sum = sum.wrapping_add(*count);
        }
        for (name, sum) in sums {
            map.serialize_entry(name, &sum)?;
        }
        map.serialize_entry("commands", &self.commands.commands)?;
        map.serialize_entry("refused_commands", &self.commands.refused_commands)?;
        if pairs.len() > 1 {
            map.serialize_entry("pairs", &pairs)?;
        }
        map.end()
    }
}
