//! One operation at a time for each instance, refused rather than queued, as Incus does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ApiError;

/// Which instance: project and name.
pub type InstanceKey = (String, String);

/// What is being done to which instance.
#[derive(Debug, Default, Clone)]
pub struct Locks {
    held: Arc<Mutex<HashMap<InstanceKey, &'static str>>>,
}

/// The right to change an instance; given back by drop.
#[derive(Debug)]
pub struct InstanceLock {
    locks: Locks,
    key: InstanceKey,
}

impl Locks {
    /// Takes an instance for `action`, a word that others are told while it lasts.
    pub fn take(&self, key: &InstanceKey, action: &'static str) -> Result<InstanceLock, ApiError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = held.get(key) {
            return Err(ApiError::bad_request(format!(
                "Instance is busy running a {other:?} operation"
            )));
        }
        held.insert(key.clone(), action);
        Ok(InstanceLock {
            locks: self.clone(),
            key: key.clone(),
        })
    }

    /// What is being done to an instance.
    pub fn action(&self, key: &InstanceKey) -> Option<&'static str> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .copied()
    }
}

impl InstanceLock {
    /// The instance.
    pub fn key(&self) -> &InstanceKey {
        &self.key
    }

    /// Goes on with something else without letting anybody in between.
    pub fn turn_into(&self, action: &'static str) {
        let mut held = self.locks.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(self.key.clone(), action);
    }
}

impl Drop for InstanceLock {
    fn drop(&mut self) {
        self.locks
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
