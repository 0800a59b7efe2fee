//! [`Pools`]: the open storage pools of this host.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::ApiError;

/// Open pools by name. The store says which pools should be there; this holds those that could be opened.
#[derive(Debug, Default)]
pub struct Pools {
    open: RwLock<BTreeMap<String, Arc<PoolPlaceholder>>>,
}

impl Pools {
    /// An open pool.
    pub fn get(&self, name: &str) -> Result<Arc<PoolPlaceholder>, ApiError> {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
            .ok_or_else(|| ApiError::not_found("Storage pool"))
    }

    /// All open pools.
    pub fn all(&self) -> Vec<(String, Arc<PoolPlaceholder>)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .map(|(name, pool)| (name.clone(), Arc::clone(pool)))
            .collect()
    }

    /// Adds a pool that has been opened.
    pub fn insert(&self, name: &str, pool: Arc<PoolPlaceholder>) {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), pool);
    }

    /// Forgets a pool.
    pub fn remove(&self, name: &str) {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}
/// Until the storage room has its pools.
#[derive(Debug)]
pub struct PoolPlaceholder;
