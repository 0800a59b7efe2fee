//! What `/1.0/events` sends.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Map, Timestamp};

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `lifecycle`, `logging` or `operation`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened.
    pub timestamp: Timestamp,
    /// An [`EventLifecycle`], an [`EventLogging`] or an [`crate::Operation`].
    pub metadata: Value,
    /// Cluster member, `none` without a cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    /// The project it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
}

/// Something was made, changed or removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventLifecycle {
    /// What happened: `instance-started`.
    pub action: String,
    /// URL of what it happened to.
    pub source: String,
    /// Details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Value>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requestor: Option<EventRequestor>,
    /// Name of what it happened to (instances).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its project (instances).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub project: String,
}

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRequestor {
    /// User name.
    pub username: String,
    /// `unix` or `tls`.
    pub protocol: String,
    /// Peer address; `@` for a client's nameless unix socket.
    #[serde(default)]
    pub address: String,
}

/// A log line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventLogging {
    /// The line.
    pub message: String,
    /// `debug`, `info`, `warning`, `error`.
    pub level: String,
    /// Details.
    #[serde(default)]
    pub context: Map,
}
