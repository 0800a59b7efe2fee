//! Background operations.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{StatusCode, Timestamp};

/// What a client does with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationClass {
    /// Wait for it.
    Task,
    /// Connect to its websockets.
    Websocket,
    /// Hand its secret to somebody else.
    Token,
}

/// A background operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id, a UUID.
    pub id: String,
    /// What a client does with it.
    pub class: OperationClass,
    /// What it does, for people.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its metadata changed last.
    pub updated_at: Timestamp,
    /// The word for `status_code`.
    pub status: String,
    /// Where it stands.
    pub status_code: StatusCode,
    /// URLs of what it works on, by kind.
    #[serde(default)]
    pub resources: BTreeMap<String, Option<Vec<String>>>,
    /// Progress and results.
    #[serde(default)]
    pub metadata: Option<Value>,
    /// Whether DELETE may stop it.
    pub may_cancel: bool,
    /// Why it failed.
    #[serde(default)]
    pub err: String,
    /// Cluster member, `none` without a cluster.
    #[serde(default)]
    pub location: String,
}
