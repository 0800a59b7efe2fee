//! The envelope around every answer.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The three kinds of answers, and the empty one that Go's zero value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvelopeKind {
    /// The result is in `metadata`.
    Sync,
    /// A background operation was made; its URL is in `operation`.
    Async,
    /// It did not work; `error` says why.
    Error,
}

/// An answer as it travels, for clients. The server writes it without building one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Which kind it is.
    #[serde(rename = "type")]
    pub kind: EnvelopeKind,
    /// `Success`, `Operation created` or empty.
    #[serde(default)]
    pub status: String,
    /// 200, 100 or 0.
    #[serde(default)]
    pub status_code: u16,
    /// URL of the operation, for [`EnvelopeKind::Async`].
    #[serde(default)]
    pub operation: String,
    /// HTTP status of an error.
    #[serde(default)]
    pub error_code: u16,
    /// What went wrong.
    #[serde(default)]
    pub error: String,
    /// The result.
    #[serde(default)]
    pub metadata: Value,
}
