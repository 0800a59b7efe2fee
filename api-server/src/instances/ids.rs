//! Private id ranges: each instance that runs has host ids that nobody else has.
//!
//! Root file systems are stored with plain ids and shifted when they are mounted, so a range is only needed while an
//! instance runs. It keeps the range it had last, if that is free.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::lock::InstanceKey;
use crate::ApiError;

/// The first host id that is given out, as in Incus; distributions keep the ids below for people and services.
const FIRST: u32 = 1_000_000;
/// Ids are given out in blocks of this size: what one ordinary system needs.
pub(super) const BLOCK: u32 = 65_536;
/// What an instance gets that runs containers itself: sixteen of them fit.
pub(super) const NESTING: u32 = 16 * BLOCK;
/// The last id that may be given out; the ones above are the kernel's `(uid_t) -1` and its neighbours.
const LAST: u32 = u32::MAX - BLOCK;

/// Who has which range, by first id.
#[derive(Debug, Default)]
pub(super) struct IdRanges {
    taken: Mutex<BTreeMap<u32, (u32, InstanceKey)>>,
}

impl IdRanges {
    /// Gives an instance a range: the one it had, if that is free, or the first free one.
    pub(super) fn take(&self, key: &InstanceKey, earlier: Option<u32>, size: u32) -> Result<u32, ApiError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|_, (_, owner)| owner != key);
        let is_free = |taken: &BTreeMap<u32, (u32, InstanceKey)>, base: u32| {
            let Some(end) = base.checked_add(size).filter(|end| base >= FIRST && *end <= LAST) else {
                return false;
            };
            let before = taken.range(..end).next_back();
            before.is_none_or(|(other, (len, _))| other + len <= base)
        };
        let base = earlier.filter(|base| is_free(&taken, *base)).or_else(|| {
            let mut next = FIRST;
            for (other, (len, _)) in taken.iter() {
                if next.checked_add(size).is_some_and(|end| end <= *other) {
                    break;
                }
                next = next.max(other + len);
            }
            is_free(&taken, next).then_some(next)
        });
        let base = base.ok_or_else(|| {
            ApiError::bad_request(format!("No free range of {size} ids is left on this host"))
        })?;
        taken.insert(base, (size, key.clone()));
        Ok(base)
    }

    /// Records the range of an instance that is found running.
    pub(super) fn adopt(&self, key: &InstanceKey, base: u32, size: u32) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(base, (size, key.clone()));
    }

    /// Takes an instance's range back.
    pub(super) fn release(&self, key: &InstanceKey) {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, (_, owner)| owner != key);
    }
}

/// The map of a range as Incus writes it into `volatile.idmap.*`; `[]` for no map.
pub(super) fn volatile_map(range: Option<(u32, u32)>) -> String {
    let Some((base, size)) = range else {
        return "[]".to_owned();
    };
    let entry = |is_uid: bool| {
        format!(
            "{{\"Isuid\":{is_uid},\"Isgid\":{},\"Hostid\":{base},\"Nsid\":0,\"Maprange\":{size}}}",
            !is_uid
        )
    };
    format!("[{},{}]", entry(true), entry(false))
}

#[cfg(test)]
#[path = "ids_tests.rs"]
mod tests;
