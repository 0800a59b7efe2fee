//! Metrics in the OpenMetrics text format, and those of instances.

use std::fmt::Write as _;
use std::sync::Arc;

use api::InstanceState;

use crate::instances::record::{self, InstanceRecord};
use crate::instances::state;
use crate::{ApiError, Daemon};

/// What kind of numbers a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// All samples of one metric.
#[derive(Debug, Clone)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    samples: Vec<(String, f64)>,
}

impl Family {
    /// A metric without samples.
    pub fn new(name: &'static str, help: &'static str, kind: Kind) -> Self {
        Self {
            name,
            help,
            kind,
            samples: Vec::new(),
        }
    }

    /// Adds a sample.
    #[must_use]
    pub fn sample(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        self.add(labels, value);
        self
    }

    fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        self.samples.push((labels.join(","), value));
    }

    /// Writes the family; nothing without samples.
    pub fn write(&self, text: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let name = self.name;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", self.help);
        for (labels, value) in &self.samples {
            let braces = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{labels}}}")
            };
            let _ = writeln!(text, "{name}{braces} {value}");
        }
    }
}

/// Escapes a label's value (OpenMetrics 1.0 §4.1).
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Metrics of all running instances of a project, or of all projects.
pub async fn instances(daemon: &Arc<Daemon>, project: Option<&str>) -> Result<Vec<Family>, ApiError> {
    let mut records: Vec<InstanceRecord> = record::all(&*daemon.store, project)?
        .into_iter()
        .map(|(record, _)| record)
        .collect();
    // One that does not run has nothing to count.
    records.retain(|record| daemon.instances.running(&record.project, &record.name).is_some());
    let states = state::states(daemon, &records).await?;
    let mut families = Families::new();
    for (record, state) in records.iter().zip(&states) {
        families.add(&record.name, &record.project, record.kind.as_str(), state);
    }
    Ok(families.0)
}

struct Families(Vec<Family>);

impl Families {
    const CPU: usize = 0;
    const MEMORY_USED: usize = 1;
    const MEMORY_TOTAL: usize = 2;
    const SWAP: usize = 3;
    const RECEIVED_BYTES: usize = 4;
    const SENT_BYTES: usize = 5;
    const RECEIVED_PACKETS: usize = 6;
    const SENT_PACKETS: usize = 7;
    const PROCESSES: usize = 8;

    fn new() -> Self {
        Self(vec![
            Family::new(
                "incus_cpu_seconds_total",
                "The total number of CPU time used in seconds.",
                Kind::Counter,
            ),
            Family::new(
                "incus_memory_Active_bytes",
                "The amount of memory in use in bytes.",
                Kind::Gauge,
            ),
            Family::new(
                "incus_memory_MemTotal_bytes",
                "The amount of total memory in bytes.",
                Kind::Gauge,
            ),
            Family::new(
                "incus_memory_Swap_bytes",
                "The amount of used swap in bytes.",
                Kind::Gauge,
            ),
            Family::new(
                "incus_network_receive_bytes_total",
                "The amount of received bytes on a given interface.",
                Kind::Counter,
            ),
            Family::new(
                "incus_network_transmit_bytes_total",
                "The amount of transmitted bytes on a given interface.",
                Kind::Counter,
            ),
            Family::new(
                "incus_network_receive_packets_total",
                "The amount of received packets on a given interface.",
                Kind::Counter,
            ),
            Family::new(
                "incus_network_transmit_packets_total",
                "The amount of transmitted packets on a given interface.",
                Kind::Counter,
            ),
            Family::new(
                "incus_procs_total",
                "The number of running processes.",
                Kind::Gauge,
            ),
        ])
    }

    fn add(&mut self, name: &str, project: &str, kind: &str, state: &InstanceState) {
        let labels = [("name", name), ("project", project), ("type", kind)];
        let mut put = |family: usize, value: f64| self.0[family].add(&labels, value);
        put(Self::CPU, state.cpu.usage as f64 / 1e9);
        put(Self::MEMORY_USED, state.memory.usage as f64);
        put(Self::MEMORY_TOTAL, state.memory.total as f64);
        put(Self::SWAP, state.memory.swap_usage as f64);
        put(Self::PROCESSES, state.processes as f64);
        for (device, interface) in state.network.iter().flatten() {
            let labels = [
                ("device", device.as_str()),
                ("name", name),
                ("project", project),
                ("type", kind),
            ];
            let counters = &interface.counters;
            for (family, value) in [
                (Self::RECEIVED_BYTES, counters.bytes_received),
                (Self::SENT_BYTES, counters.bytes_sent),
                (Self::RECEIVED_PACKETS, counters.packets_received),
                (Self::SENT_PACKETS, counters.packets_sent),
            ] {
                self.0[family].add(&labels, value as f64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Family, Kind};

    #[test]
    fn samples_have_escaped_labels_and_empty_families_are_silent() {
        let mut text = String::new();
        Family::new("a_total", "Help.", Kind::Counter)
            .sample(&[("name", "c\"1\\")], 1.5)
            .write(&mut text);
        Family::new("b", "Help.", Kind::Gauge).write(&mut text);
        assert_eq!(
            text,
            "# HELP a_total Help.\n# TYPE a_total counter\na_total{name=\"c\\\"1\\\\\"} 1.5\n"
        );
    }
}
