//! Warnings: conditions that an administrator should know of.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, null_default};

/// A warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// `new`, `acknowledged` or `resolved`.
    pub status: String,
    /// Its id.
    pub uuid: String,
    /// Cluster member, `none` without a cluster.
    pub location: String,
    /// The project it concerns.
    pub project: String,
    /// What kind it is, in words.
    #[serde(rename = "type")]
    pub kind: String,
    /// How often it was seen.
    pub count: u64,
    /// When first.
    pub first_seen_at: Timestamp,
    /// When last.
    pub last_seen_at: Timestamp,
    /// What was wrong last time.
    pub last_message: String,
    /// `low`, `moderate` or `high`.
    pub severity: String,
    /// URL of what it concerns.
    pub entity_url: String,
}

/// What can be changed of a warning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningPut {
    /// `acknowledged`, or `new` again.
    #[serde(default, deserialize_with = "null_default")]
    pub status: String,
}
