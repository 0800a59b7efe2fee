//! What a running instance uses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{StatusCode, Timestamp};

/// What an instance does and uses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceState {
    /// The word for `status_code`.
    pub status: String,
    /// What it does.
    pub status_code: StatusCode,
    /// Disks; `null` when it is not known.
    pub disk: Option<BTreeMap<String, InstanceStateDisk>>,
    /// Memory.
    pub memory: InstanceStateMemory,
    /// Network interfaces; `null` when it does not run.
    pub network: Option<BTreeMap<String, InstanceStateNetwork>>,
    /// Its first process as the host sees it; 0 when it does not run.
    pub pid: i64,
    /// Processes; -1 when it is not known, 0 when it does not run.
    pub processes: i64,
    /// Processor.
    pub cpu: InstanceStateCpu,
    /// When it was started.
    #[serde(default)]
    pub started_at: Timestamp,
    /// Its operating system (virtual machines with an agent).
    pub os_info: Option<InstanceStateOsInfo>,
}

/// Use of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStateDisk {
    /// Bytes in use.
    pub usage: i64,
    /// Bytes altogether.
    #[serde(default)]
    pub total: i64,
}

/// Use of the processor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStateCpu {
    /// Nanoseconds.
    pub usage: i64,
    /// Nanoseconds it may use in a second.
    #[serde(default)]
    pub allocated_time: i64,
}

/// Use of memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct InstanceStateMemory {
    pub usage: i64,
    pub usage_peak: i64,
    #[serde(default)]
    pub total: i64,
    #[serde(default)]
    pub swap_usage: i64,
    #[serde(default)]
    pub swap_usage_peak: i64,
}

/// A network interface in an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStateNetwork {
    /// Addresses.
    pub addresses: Vec<InstanceStateNetworkAddress>,
    /// Traffic.
    pub counters: InstanceStateNetworkCounters,
    /// Hardware address.
    pub hwaddr: String,
    /// The host's end.
    pub host_name: String,
    /// Largest packet.
    pub mtu: i64,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast`, `loopback`, `point-to-point` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// An address of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStateNetworkAddress {
    /// `inet` or `inet6`.
    pub family: String,
    /// The address.
    pub address: String,
    /// Prefix length.
    pub netmask: String,
    /// `global`, `link` or `local`.
    pub scope: String,
}

/// Traffic of an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct InstanceStateNetworkCounters {
    pub bytes_received: i64,
    pub bytes_sent: i64,
    pub packets_received: i64,
    pub packets_sent: i64,
    pub errors_received: i64,
    pub errors_sent: i64,
    pub packets_dropped_outbound: i64,
    pub packets_dropped_inbound: i64,
}

/// The operating system of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct InstanceStateOsInfo {
    pub os: String,
    pub os_version: String,
    pub kernel_version: String,
    pub hostname: String,
    pub fqdn: String,
}
