//! [`Document`]: one value of the store.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Result, StoreError};

/// A value, where it lies and which version of it this is. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    key: Arc<str>,
    json: Arc<str>,
    revision: u64,
}

impl Document {
    /// A document as a store found it.
    pub(super) fn new(key: impl Into<Arc<str>>, json: impl Into<Arc<str>>, revision: u64) -> Self {
        Self {
            key: key.into(),
            json: json.into(),
            revision,
        }
    }

    /// Where it lies.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The last part of its key: its name.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// Its text.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Its revision. Revisions never repeat within a store, not even when a document is removed and made again.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Its ETag, with quotes.
    pub fn etag(&self) -> String {
        format!("\"{:016x}\"", self.revision)
    }

    /// Its value.
    pub fn value(&self) -> Result<Value> {
        self.to()
    }

    /// Its value as a type.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.json).map_err(|source| StoreError::Invalid {
            key: self.key.to_string(),
            source,
        })
    }
}
