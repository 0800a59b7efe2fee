//! Profiles: configuration that instances share.

use serde::{Deserialize, Serialize};

use crate::{Devices, Map, null_default};

/// A profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Devices.
    #[serde(default, deserialize_with = "null_default")]
    pub devices: Devices,
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// URLs of the instances that use it.
    #[serde(default, deserialize_with = "null_default")]
    pub used_by: Vec<String>,
    /// Its project.
    #[serde(default, deserialize_with = "null_default")]
    pub project: String,
}

/// What can be changed of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfilePut {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Devices.
    #[serde(default, deserialize_with = "null_default")]
    pub devices: Devices,
}

/// A new profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfilesPost {
    /// Its content.
    #[serde(flatten)]
    pub put: ProfilePut,
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
}

/// A profile's new name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfilePost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
}
