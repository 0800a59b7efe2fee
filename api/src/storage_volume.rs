//! Storage volumes and their snapshots.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Map, Timestamp, null_default};

/// A storage volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolume {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Its name.
    pub name: String,
    /// `container`, `virtual-machine`, `image` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// URLs of what uses it.
    #[serde(default, deserialize_with = "null_default")]
    pub used_by: Vec<String>,
    /// Cluster member, `none` without a cluster.
    #[serde(default)]
    pub location: String,
    /// `filesystem` or `block`.
    pub content_type: String,
    /// Its project.
    #[serde(default)]
    pub project: String,
    /// When it was made.
    #[serde(default)]
    pub created_at: Timestamp,
}

/// What can be changed of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumePut {
    /// Configuration keys; `null` leaves them (a restore).
    #[serde(default)]
    pub config: Option<Map>,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// A snapshot to restore.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub restore: String,
}

/// A new volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumesPost {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// `custom`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// What to copy.
    #[serde(default, deserialize_with = "null_default")]
    pub source: StorageVolumeSource,
    /// `filesystem` or `block`.
    #[serde(default, deserialize_with = "null_default")]
    pub content_type: String,
}

/// What a new volume is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumeSource {
    /// Volume to copy, `volume` or `volume/snapshot`.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// Empty, `copy` or `migration`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Its pool.
    #[serde(default, deserialize_with = "null_default")]
    pub pool: String,
    /// Whether to leave its snapshots.
    #[serde(default, deserialize_with = "null_default")]
    pub volume_only: bool,
    /// Whether to update an existing copy.
    #[serde(default, deserialize_with = "null_default")]
    pub refresh: bool,
    /// Its project, when another one.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub project: String,
    /// Cluster member it is on.
    #[serde(default, deserialize_with = "null_default")]
    pub location: String,
}

/// A volume's new name or place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumePost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// Another pool.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub pool: String,
    /// Another project.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub project: String,
    /// Whether another server asks for it.
    #[serde(default, deserialize_with = "null_default")]
    pub migration: bool,
    /// Where that server is.
    #[serde(default)]
    pub target: Option<Value>,
    /// Whether to leave its snapshots.
    #[serde(default, deserialize_with = "null_default")]
    pub volume_only: bool,
}

/// A snapshot of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumeSnapshot {
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// When it is removed by itself.
    #[serde(default)]
    pub expires_at: Timestamp,
    /// Its name.
    pub name: String,
    /// The volume's keys when it was made.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// `filesystem` or `block`.
    pub content_type: String,
    /// When it was made.
    #[serde(default)]
    pub created_at: Timestamp,
}

/// What can be changed of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumeSnapshotPut {
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// When it is removed by itself.
    #[serde(default)]
    pub expires_at: Timestamp,
}

/// A new snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumeSnapshotsPost {
    /// Its name; empty for the next free one.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// When it is removed by itself; `null` for what the volume says.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// A snapshot's new name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumeSnapshotPost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
}

/// How full a volume is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumeState {
    /// `null` where the driver cannot tell.
    pub usage: Option<StorageVolumeStateUsage>,
}

/// How full a volume is, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageVolumeStateUsage {
    /// In use.
    pub used: u64,
    /// At most.
    pub total: i64,
}
