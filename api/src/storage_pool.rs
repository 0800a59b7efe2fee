//! Storage pools.

use serde::{Deserialize, Serialize};

use crate::{Map, null_default};

/// A storage pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePool {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// URLs of what uses it.
    #[serde(default, deserialize_with = "null_default")]
    pub used_by: Vec<String>,
    /// `Created`, `Pending` or `Errored`.
    #[serde(default)]
    pub status: String,
    /// Cluster members that have it.
    #[serde(default, deserialize_with = "null_default")]
    pub locations: Vec<String>,
}

/// What can be changed of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePoolPut {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
}

/// A new pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePoolsPost {
    /// Its content.
    #[serde(flatten)]
    pub put: StoragePoolPut,
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// Its driver.
    #[serde(default, deserialize_with = "null_default")]
    pub driver: String,
}

/// Use of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcesStoragePool {
    /// Bytes.
    pub space: ResourcesStoragePoolSpace,
    /// Files.
    pub inodes: ResourcesStoragePoolInodes,
}

/// Bytes of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcesStoragePoolSpace {
    /// In use.
    pub used: u64,
    /// Altogether.
    pub total: u64,
}

/// Files of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcesStoragePoolInodes {
    /// In use.
    pub used: u64,
    /// Altogether.
    pub total: u64,
}
