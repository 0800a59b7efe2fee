//! Instances: containers and virtual machines.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Devices, InstanceSnapshot, InstanceState, Map, StatusCode, Timestamp, null_default};

/// What an instance is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceType {
    /// A system container.
    #[default]
    Container,
    /// A virtual machine.
    VirtualMachine,
}

impl InstanceType {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The machine it is for.
    pub architecture: String,
    /// Its own configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// Its own devices.
    #[serde(default, deserialize_with = "null_default")]
    pub devices: Devices,
    /// Whether it disappears when it stops.
    #[serde(default)]
    pub ephemeral: bool,
    /// Profiles, the last one wins.
    #[serde(default, deserialize_with = "null_default")]
    pub profiles: Vec<String>,
    /// Whether it has saved its running state.
    #[serde(default)]
    pub stateful: bool,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// When it was made.
    #[serde(default)]
    pub created_at: Timestamp,
    /// Profiles' keys and its own.
    #[serde(default, deserialize_with = "null_default")]
    pub expanded_config: Map,
    /// Profiles' devices and its own.
    #[serde(default, deserialize_with = "null_default")]
    pub expanded_devices: Devices,
    /// Its name.
    pub name: String,
    /// The word for `status_code`.
    pub status: String,
    /// What it does.
    pub status_code: StatusCode,
    /// When it was started last; 1970 for never.
    #[serde(default)]
    pub last_used_at: Timestamp,
    /// Cluster member, `none` without a cluster.
    #[serde(default)]
    pub location: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: InstanceType,
    /// Its project.
    #[serde(default)]
    pub project: String,
}

/// An instance with everything about it: `recursion=2`, or `recursion=1` for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceFull {
    /// The instance.
    #[serde(flatten)]
    pub instance: Instance,
    /// Its backups.
    #[serde(default)]
    pub backups: Option<Vec<Value>>,
    /// Its state.
    #[serde(default)]
    pub state: Option<InstanceState>,
    /// Its snapshots.
    #[serde(default)]
    pub snapshots: Option<Vec<InstanceSnapshot>>,
}

/// What can be changed of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePut {
    /// The machine it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// Devices.
    #[serde(default, deserialize_with = "null_default")]
    pub devices: Devices,
    /// Whether it disappears when it stops.
    #[serde(default, deserialize_with = "null_default")]
    pub ephemeral: bool,
    /// Profiles; `null` for what is there (PUT) or the default one (POST).
    #[serde(default)]
    pub profiles: Option<Vec<String>>,
    /// A snapshot to restore.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub restore: String,
    /// Whether the running state is saved or restored too.
    #[serde(default, deserialize_with = "null_default")]
    pub stateful: bool,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
}

/// A new instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstancesPost {
    /// Its content.
    #[serde(flatten)]
    pub put: InstancePut,
    /// Its name; empty for one that is made up.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// What it is made from.
    #[serde(default, deserialize_with = "null_default")]
    pub source: InstanceSource,
    /// A cloud's size: `c2.micro`.
    #[serde(default, deserialize_with = "null_default")]
    pub instance_type: String,
    /// `container` or `virtual-machine`; empty for a container.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Whether to start it.
    #[serde(default, deserialize_with = "null_default")]
    pub start: bool,
}

/// What a new instance is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceSource {
    /// `image`, `copy`, `migration` or `none`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Certificate of another server.
    #[serde(default, deserialize_with = "null_default")]
    pub certificate: String,
    /// Alias of an image.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub alias: String,
    /// Fingerprint of an image, or the start of one.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub fingerprint: String,
    /// Properties of an image.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Map::is_empty"
    )]
    pub properties: Map,
    /// URL of another server.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub server: String,
    /// Secret for an image of another server.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub secret: String,
    /// Protocol of another server.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub protocol: String,
    /// The disk to start from.
    #[serde(
        rename = "base-image",
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub base_image: String,
    /// `pull` or `push`.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub mode: String,
    /// URL of a migration.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub operation: String,
    /// Secrets of a migration's websockets.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "Map::is_empty"
    )]
    pub secrets: Map,
    /// The instance or snapshot (`name/snapshot`) to copy.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub source: String,
    /// Whether a migration is live.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub live: bool,
    /// Whether to leave its snapshots.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub instance_only: bool,
    /// Whether to update an existing copy.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub refresh: bool,
    /// Project of the source.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub project: String,
    /// Whether errors of files that change are ignored.
    #[serde(default, deserialize_with = "null_default")]
    pub allow_inconsistent: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// An instance's new name or place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// Whether it moves.
    #[serde(default, deserialize_with = "null_default")]
    pub migration: bool,
    /// Whether it moves while it runs.
    #[serde(default, deserialize_with = "null_default")]
    pub live: bool,
    /// Whether to leave its snapshots.
    #[serde(default, deserialize_with = "null_default")]
    pub instance_only: bool,
    /// Where another server waits for it.
    #[serde(default)]
    pub target: Option<InstancePostTarget>,
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
    /// New configuration keys.
    #[serde(default)]
    pub config: Option<Map>,
    /// New devices.
    #[serde(default)]
    pub devices: Option<Devices>,
    /// New profiles.
    #[serde(default)]
    pub profiles: Option<Vec<String>>,
}

/// Where another server waits for an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePostTarget {
    /// Its certificate.
    #[serde(default, deserialize_with = "null_default")]
    pub certificate: String,
    /// URL of its operation.
    #[serde(default, deserialize_with = "null_default")]
    pub operation: String,
    /// Secrets of that operation's websockets.
    #[serde(default, deserialize_with = "null_default")]
    pub secrets: Map,
}
