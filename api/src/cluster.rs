//! Clusters; a host alone answers that there is none.

use serde::{Deserialize, Serialize};

/// The cluster this host is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// This host's name in it.
    pub server_name: String,
    /// Whether there is one.
    pub enabled: bool,
    /// What a host that joins has to tell.
    pub member_config: Vec<ClusterMemberConfigKey>,
}

/// One value that a joining host has to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterMemberConfigKey {
    /// `storage-pool` or `network`.
    pub entity: String,
    /// Its name.
    pub name: String,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What it means.
    pub description: String,
}
