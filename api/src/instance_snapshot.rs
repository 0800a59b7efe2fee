//! Snapshots of instances.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Devices, Map, Timestamp, null_default};

/// A snapshot of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSnapshot {
    /// When it is removed by itself.
    #[serde(default)]
    pub expires_at: Timestamp,
    /// The machine it is for.
    #[serde(default)]
    pub architecture: String,
    /// The instance's keys when it was made.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// When it was made.
    #[serde(default)]
    pub created_at: Timestamp,
    /// The instance's devices when it was made.
    #[serde(default, deserialize_with = "null_default")]
    pub devices: Devices,
    /// Whether the instance was ephemeral.
    #[serde(default)]
    pub ephemeral: bool,
    /// Profiles' keys and its own.
    #[serde(default, deserialize_with = "null_default")]
    pub expanded_config: Map,
    /// Profiles' devices and its own.
    #[serde(default, deserialize_with = "null_default")]
    pub expanded_devices: Devices,
    /// When the instance was started last.
    #[serde(default)]
    pub last_used_at: Timestamp,
    /// Its name.
    pub name: String,
    /// The instance's profiles.
    #[serde(default, deserialize_with = "null_default")]
    pub profiles: Vec<String>,
    /// Whether the running state was saved.
    #[serde(default)]
    pub stateful: bool,
    /// Bytes it uses; -1 where the driver cannot tell.
    #[serde(default)]
    pub size: i64,
}

/// A new snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSnapshotsPost {
    /// Its name; empty for the next free one.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// Whether to save the running state.
    #[serde(default, deserialize_with = "null_default")]
    pub stateful: bool,
    /// When it is removed by itself; `null` for what the instance says.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// What can be changed of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSnapshotPut {
    /// When it is removed by itself.
    #[serde(default)]
    pub expires_at: Timestamp,
}

/// A snapshot's new name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSnapshotPost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// Whether it moves.
    #[serde(default, deserialize_with = "null_default")]
    pub migration: bool,
    /// Where another server waits for it.
    #[serde(default)]
    pub target: Option<Value>,
}
