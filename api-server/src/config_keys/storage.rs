//! Keys of storage pools and volumes.

use api::Map;

use super::values::Kind;
use super::{invalid, unknown};
use crate::ApiError;

const POOL: &[(&str, Kind)] = &[
    ("rsync.bwlimit", Kind::Size),
    ("rsync.compression", Kind::Bool),
    ("size", Kind::Size),
    ("source", Kind::Any),
];

const VOLUME: &[(&str, Kind)] = &[
    ("block.filesystem", Kind::OneOf(&["ext4", "btrfs", "xfs"])),
    ("block.mount_options", Kind::Any),
    ("initial.gid", Kind::Uint32),
    ("initial.mode", Kind::Any),
    ("initial.uid", Kind::Uint32),
    ("security.shared", Kind::Bool),
    ("security.shifted", Kind::Bool),
    ("security.unmapped", Kind::Bool),
    ("size", Kind::Size),
    ("snapshots.expiry", Kind::Any),
    ("snapshots.pattern", Kind::Any),
    ("snapshots.schedule", Kind::Any),
];

fn check(table: &[(&str, Kind)], key: &str, value: &str) -> Result<(), ApiError> {
    let (_, kind) = table
        .iter()
        .find(|(known, _)| key == *known)
        .ok_or_else(|| unknown(key))?;
    kind.check(value).map_err(|why| invalid(key, why))
}

/// Checks the configuration of a pool. `volume.KEY` is the default of its volumes' KEY.
pub fn check_pool_config(config: &Map) -> Result<(), ApiError> {
    for (key, value) in config {
        if key.starts_with("user.") || key.starts_with("volatile.") {
            continue;
        }
        match key.strip_prefix("volume.") {
            Some(key) => check(VOLUME, key, value)?,
            None => check(POOL, key, value)?,
        }
    }
    Ok(())
}

/// Checks the configuration of a volume.
pub fn check_volume_config(config: &Map) -> Result<(), ApiError> {
    for (key, value) in config {
        if !key.starts_with("user.") && !key.starts_with("volatile.") {
            check(VOLUME, key, value)?;
        }
    }
    Ok(())
}
