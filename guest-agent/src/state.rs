//! How an instance is, seen from inside: the answer to [`Request::State`](crate::protocol::Request::State).
//!
//! Field names and units are those of `InstanceState` in the REST API, so the daemon passes them on as they are
//! and adds what only the host knows (status, pid, host side interface names, and, for containers, memory and
//! processor use from the control group).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestState {
    /// Processor time used since boot.
    pub cpu: CpuState,
    /// File systems by device name; `root` is always there.
    pub disk: BTreeMap<String, DiskState>,
    /// Memory of the kernel that runs the agent.
    pub memory: MemoryState,
    /// Interfaces by their name in the instance.
    pub network: BTreeMap<String, NetworkState>,
    /// What runs there.
    pub os_info: OsInfo,
    /// Number of processes.
    pub processes: i64,
}

/// Processor use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuState {
    /// Nanoseconds since boot, all processors together, without idle time.
    pub usage: i64,
}

/// Use of one file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskState {
    /// Bytes used.
    pub usage: i64,
    /// Bytes in all.
    pub total: i64,
}

/// Memory use in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryState {
    /// In use and not reclaimable.
    pub usage: i64,
    /// Highest use so far; 0 where the kernel keeps no record.
    pub usage_peak: i64,
    /// In all.
    pub total: i64,
    /// Swap in use.
    pub swap_usage: i64,
    /// Highest swap use so far; 0 where the kernel keeps no record.
    pub swap_usage_peak: i64,
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkState {
    /// Its addresses.
    pub addresses: Vec<NetworkAddress>,
    /// What went through.
    pub counters: NetworkCounters,
    /// Hardware address, empty where there is none.
    pub hwaddr: String,
    /// Name on the host: always empty here, the daemon knows it.
    pub host_name: String,
    /// Largest packet.
    pub mtu: i64,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast`, `loopback`, `point-to-point` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One address of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkAddress {
    /// `inet` or `inet6`.
    pub family: String,
    /// The address.
    pub address: String,
    /// Prefix length.
    pub netmask: String,
    /// `local`, `link` or `global`.
    pub scope: String,
}

/// Packets and bytes of an interface since it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the names say it, and they are the REST API's
pub struct NetworkCounters {
    pub bytes_received: i64,
    pub bytes_sent: i64,
    pub packets_received: i64,
    pub packets_sent: i64,
    pub errors_received: i64,
    pub errors_sent: i64,
    pub packets_dropped_outbound: i64,
    pub packets_dropped_inbound: i64,
}

/// The operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OsInfo {
    /// Name from `os-release`.
    pub os: String,
    /// Version from `os-release`.
    pub os_version: String,
    /// Release of the kernel.
    pub kernel_version: String,
    /// Host name.
    pub hostname: String,
    /// Host name with its domain, where `/etc/hosts` tells one.
    pub fqdn: String,
}
