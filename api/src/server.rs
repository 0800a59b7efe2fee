//! The server itself: `/1.0`.

use serde::{Deserialize, Serialize};

use crate::{Map, null_default};

/// The server, as `GET /1.0` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What works beyond the first version of the API.
    #[serde(default)]
    pub api_extensions: Vec<String>,
    /// `stable`.
    #[serde(default)]
    pub api_status: String,
    /// `1.0`.
    #[serde(default)]
    pub api_version: String,
    /// `trusted` or `untrusted`.
    #[serde(default)]
    pub auth: String,
    /// Whether only public images are served.
    #[serde(default)]
    pub public: bool,
    /// How clients can log in.
    #[serde(default)]
    pub auth_methods: Vec<String>,
    /// Who the client is.
    #[serde(default)]
    pub auth_user_name: String,
    /// How we know.
    #[serde(default)]
    pub auth_user_method: String,
    /// Host and software.
    #[serde(default)]
    pub environment: Environment,
}

/// Host and software.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names are Incus'")]
pub struct Environment {
    pub addresses: Vec<String>,
    pub architectures: Vec<String>,
    pub certificate: String,
    pub certificate_fingerprint: String,
    pub driver: String,
    pub driver_version: String,
    pub firewall: String,
    pub kernel: String,
    pub kernel_architecture: String,
    pub kernel_features: Map,
    pub kernel_version: String,
    pub lxc_features: Map,
    pub os_name: String,
    pub os_version: String,
    pub project: String,
    pub server: String,
    pub server_clustered: bool,
    pub server_event_mode: String,
    pub server_name: String,
    pub server_pid: u32,
    pub server_version: String,
    pub storage: String,
    pub storage_version: String,
    pub storage_supported_drivers: Vec<ServerStorageDriver>,
}

/// A storage driver that works on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServerStorageDriver {
    /// `dir`, `btrfs`.
    pub name: String,
    /// Version of its tools.
    pub version: String,
    /// Whether several hosts share its pools.
    pub remote: bool,
}

/// What can be changed of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPut {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
}
