//! The documents as they are in memory: every read is served from here.
//!
//! The store is small (a few kilobytes a resource), the daemon is its only writer, and every write goes through one
//! place, so the copy in memory is exact. A read costs a lock without contention and two reference counts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Change, Document, Revision, StoreError};

#[derive(Debug, Default)]
pub(super) struct Memory {
    documents: RwLock<BTreeMap<Arc<str>, Document>>,
}

impl Memory {
    pub(super) fn load(documents: impl Iterator<Item = Document>) -> Self {
        let documents = documents
            .map(|document| (Arc::from(document.key()), document))
            .collect();
        Self {
            documents: RwLock::new(documents),
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<Document> {
        self.documents
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    pub(super) fn list(&self, prefix: &str) -> Vec<Document> {
        let documents = self.documents.read().unwrap_or_else(PoisonError::into_inner);
        documents
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(_, document)| document.clone())
            .collect()
    }

    /// Whether all changes find what they expect. A later change of a transaction sees the earlier ones.
    pub(super) fn check(&self, changes: &[Change]) -> Result<(), StoreError> {
        let documents = self.documents.read().unwrap_or_else(PoisonError::into_inner);
        // u64::MAX stands for "written by this transaction": it exists, and no caller can know its revision.
        let mut pending: BTreeMap<&str, u64> = BTreeMap::new();
        for change in changes {
            let (key, expect, after) = match change {
                Change::Put { key, expect, .. } => (key, *expect, u64::MAX),
                Change::Delete { key, expect } => (key, *expect, 0),
            };
            let found = pending
                .get(key.as_str())
                .copied()
                .unwrap_or_else(|| documents.get(key.as_str()).map_or(0, Document::revision));
            let met = match expect {
                Revision::Any => true,
                Revision::Absent => found == 0,
                Revision::Exact(revision) => found == revision,
            };
            if !met {
                return Err(StoreError::Conflict {
                    key: key.clone(),
                    expected: expect,
                    found,
                });
            }
            pending.insert(key, after);
        }
        Ok(())
    }

    pub(super) fn apply(&self, written: impl Iterator<Item = Written>) {
        let mut documents = self.documents.write().unwrap_or_else(PoisonError::into_inner);
        for change in written {
            match change {
                Written::Put(document) => {
                    documents.insert(Arc::from(document.key()), document);
                }
                Written::Deleted(key) => {
                    documents.remove(key.as_str());
                }
            }
        }
    }
}

/// A change that is on disk.
#[derive(Debug, Clone)]
pub(super) enum Written {
    Put(Document),
    Deleted(String),
}
