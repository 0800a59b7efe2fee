//! Networks, their leases and the addresses they gave.

use serde::{Deserialize, Serialize};

use crate::{Map, null_default};

/// A network, managed or merely there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Its name, which is the link's.
    pub name: String,
    /// `bridge`, `physical`, `loopback`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// URLs of what uses it.
    #[serde(default, deserialize_with = "null_default")]
    pub used_by: Vec<String>,
    /// Whether the daemon made it.
    #[serde(default)]
    pub managed: bool,
    /// `Created`, `Pending`, `Errored`; empty when not managed.
    #[serde(default)]
    pub status: String,
    /// Cluster members that have it; `null` when not managed.
    #[serde(default)]
    pub locations: Option<Vec<String>>,
    /// Its project.
    #[serde(default)]
    pub project: String,
}

/// What can be changed of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPut {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
}

/// A new network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworksPost {
    /// Its content.
    #[serde(flatten)]
    pub put: NetworkPut,
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// Its kind; empty for `bridge`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
}

/// A network's new name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
}

/// An address that a network gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkLease {
    /// Who has it.
    pub hostname: String,
    /// The hardware address.
    pub hwaddr: String,
    /// The address.
    pub address: String,
    /// `static`, `dynamic` or `gateway`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Cluster member.
    pub location: String,
}

/// Who uses which address, over all networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAllocation {
    /// Address with prefix length.
    pub addresses: String,
    /// URL of who has it.
    pub used_by: String,
    /// `network`, `instance`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is hidden behind NAT.
    pub nat: bool,
    /// The hardware address.
    pub hwaddr: String,
    /// The network.
    pub network: String,
}
