//! The state of a link.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The state of a link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkState {
    /// Addresses.
    pub addresses: Vec<NetworkStateAddress>,
    /// Traffic.
    pub counters: NetworkStateCounters,
    /// Hardware address.
    pub hwaddr: String,
    /// Largest packet.
    pub mtu: u32,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast`, `loopback`, `point-to-point` or `unknown`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Details of a bond.
    pub bond: Option<Value>,
    /// Details of a bridge.
    pub bridge: Option<NetworkStateBridge>,
    /// Details of a VLAN.
    pub vlan: Option<NetworkStateVlan>,
    /// Details of an OVN network.
    pub ovn: Option<Value>,
}

/// An address of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStateAddress {
    /// `inet` or `inet6`.
    pub family: String,
    /// The address.
    pub address: String,
    /// Prefix length.
    pub netmask: String,
    /// `global`, `link` or `local`.
    pub scope: String,
}

/// Traffic of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct NetworkStateCounters {
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub packets_received: u64,
    pub packets_sent: u64,
}

/// Details of a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStateBridge {
    /// Bridge id.
    pub id: String,
    /// Whether the spanning tree protocol runs.
    pub stp: bool,
    /// In hundredths of a second.
    pub forward_delay: u64,
    /// VLAN of frames without a tag.
    pub vlan_default: u64,
    /// Whether VLANs are kept apart.
    pub vlan_filtering: bool,
    /// Links in it.
    pub upper_devices: Vec<String>,
}

/// Details of a VLAN link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStateVlan {
    /// The link below.
    pub lower_device: String,
    /// VLAN id.
    pub vid: u64,
}
