//! Names for instances whose maker does not care.

use std::sync::Arc;

use crate::store::keys;
use crate::{ApiError, Daemon};

/// A name that no instance of the project has.
pub(super) fn free(daemon: &Arc<Daemon>, project: &str) -> Result<String, ApiError> {
    const FIRST: [&str; 16] = [
        "able", "bold", "calm", "deft", "eager", "fair", "gentle", "happy", "keen", "light", "merry",
        "noble", "proud", "quick", "sunny", "warm",
    ];
    const SECOND: [&str; 16] = [
        "badger", "crane", "dolphin", "egret", "falcon", "gecko", "heron", "ibex", "jackal", "koala", "lynx",
        "marten", "newt", "otter", "puffin", "raven",
    ];
    loop {
        let number: usize = rand::random::<u16>().into();
        let name = format!("{}-{}", FIRST[number % 16], SECOND[number / 16 % 16]);
        let name = if (number / 256).is_multiple_of(2) {
            name
        } else {
            format!("{name}-{:04x}", rand::random::<u16>())
        };
        if daemon.store.get(&keys::instance(project, &name))?.is_none() {
            return Ok(name);
        }
    }
}
