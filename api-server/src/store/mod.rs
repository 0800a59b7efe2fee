//! The resource store: JSON documents under keys, each with a revision.
//!
//! Everything the API shows that is not read from the host is a document here. The trait is what a cluster's
//! key-value store can also give (get, list by prefix, put-if-revision, transaction, watch); nothing above it knows
//! which store is below. Reads are cheap and never block; writes return when they are on disk and may be called from
//! async code of the multi-threaded runtime.

mod document;
pub mod keys;
mod memory;
mod sqlite;
mod watch;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use document::Document;
pub use sqlite::SqliteStore;
pub use watch::{Event, Watch};

/// What a store cannot do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A document is not as the caller expected; nothing was changed.
    #[error("document {key:?} has changed: expected {expected}, found {found}")]
    Conflict {
        /// Its key.
        key: String,
        /// What was expected.
        expected: Revision,
        /// What is there (0: nothing).
        found: u64,
    },
    /// A document does not have the form its reader expects.
    #[error("document {key:?} is not valid")]
    Invalid {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The database failed; the change was not made.
    #[error("database error while {doing}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// The database was made by a later version.
    #[error("database has schema version {found}, this version knows up to {known}: use a newer virgad")]
    TooNew {
        /// Version in the file.
        found: i64,
        /// Version we know.
        known: i64,
    },
}

/// What a store's functions return.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What a writer expects of a document before its change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// Nothing.
    Any,
    /// That there is none.
    Absent,
    /// That it is this one.
    Exact(u64),
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::Absent => f.write_str("none"),
            Self::Exact(revision) => write!(f, "revision {revision}"),
        }
    }
}

/// One change of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Write a document.
    Put {
        /// Its key.
        key: String,
        /// Its content.
        value: Value,
        /// What is expected of it before.
        expect: Revision,
    },
    /// Remove a document. Removing what is not there is no error unless something was expected.
    Delete {
        /// Its key.
        key: String,
        /// What is expected of it before.
        expect: Revision,
    },
}

impl Change {
    /// Writes a document.
    pub fn put<T: Serialize>(key: impl Into<String>, value: &T, expect: Revision) -> Result<Self> {
        let key = key.into();
        let value = serde_json::to_value(value).map_err(|source| StoreError::Invalid {
            key: key.clone(),
            source,
        })?;
        Ok(Self::Put { key, value, expect })
    }

    /// Removes a document.
    pub fn delete(key: impl Into<String>, expect: Revision) -> Self {
        Self::Delete {
            key: key.into(),
            expect,
        }
    }
}

/// Documents with revisions.
pub trait Store: Send + Sync {
    /// A document.
    fn get(&self, key: &str) -> Result<Option<Document>>;

    /// All documents whose key starts with `prefix`, sorted by key.
    fn list(&self, prefix: &str) -> Result<Vec<Document>>;

    /// Makes all changes or none. All changes of a transaction get the same, new revision, which is returned.
    fn transact(&self, changes: Vec<Change>) -> Result<u64>;

    /// Changes of documents whose key starts with `prefix`, from now on.
    fn watch(&self, prefix: &str) -> Watch;

    /// Writes a document.
    fn put(&self, key: &str, value: &Value, expect: Revision) -> Result<Document> {
        let revision = self.transact(vec![Change::Put {
            key: key.to_owned(),
            value: value.clone(),
            expect,
        }])?;
        Ok(Document::new(key, value.to_string(), revision))
    }

    /// Removes a document.
    fn delete(&self, key: &str, expect: Revision) -> Result<()> {
        self.transact(vec![Change::delete(key, expect)]).map(drop)
    }
}

/// A store that is shared.
pub type SharedStore = Arc<dyn Store>;

/// A document as a type, with the document itself for its revision.
pub fn get_as<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<(T, Document)>> {
    match store.get(key)? {
        None => Ok(None),
        Some(document) => Ok(Some((document.to()?, document))),
    }
}

/// All documents below a prefix as a type.
pub fn list_as<T: DeserializeOwned>(store: &dyn Store, prefix: &str) -> Result<Vec<(T, Document)>> {
    store
        .list(prefix)?
        .into_iter()
        .map(|document| Ok((document.to()?, document)))
        .collect()
}

/// Writes a type as a document.
pub fn put_as<T: Serialize>(store: &dyn Store, key: &str, value: &T, expect: Revision) -> Result<Document> {
    let value = serde_json::to_value(value).map_err(|source| StoreError::Invalid {
        key: key.to_owned(),
        source,
    })?;
    store.put(key, &value, expect)
}
