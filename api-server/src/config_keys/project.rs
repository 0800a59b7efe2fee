//! Keys of projects.

use api::Map;

use super::values::Kind;
use super::{invalid, unknown};
use crate::ApiError;

const KEYS: &[(&str, Kind)] = &[
    ("backups.compression_algorithm", Kind::Any),
    ("features.images", Kind::Bool),
    ("features.networks", Kind::Bool),
    ("features.networks.zones", Kind::Bool),
    ("features.profiles", Kind::Bool),
    ("features.storage.buckets", Kind::Bool),
    ("features.storage.volumes", Kind::Bool),
    ("images.auto_update_cached", Kind::Bool),
    ("images.auto_update_interval", Kind::Int64),
    ("images.compression_algorithm", Kind::Any),
    ("images.default_architecture", Kind::Any),
    ("images.remote_cache_expiry", Kind::Int64),
    ("limits.containers", Kind::Uint32),
    ("limits.cpu", Kind::Uint32),
    ("limits.disk", Kind::Size),
    ("limits.disk.pool.", Kind::Size),
    ("limits.instances", Kind::Uint32),
    ("limits.memory", Kind::Size),
    ("limits.networks", Kind::Uint32),
    ("limits.processes", Kind::Uint32),
    ("limits.virtual-machines", Kind::Uint32),
];

/// Checks the configuration of a project. Restrictions (`restricted*`) are refused: they would promise a separation
/// that is not enforced yet.
pub fn check_project_config(config: &Map) -> Result<(), ApiError> {
    for (key, value) in config {
        if key.starts_with("user.") {
            continue;
        }
        if key == "restricted" && (value.is_empty() || super::is_false(value)) {
            continue;
        }
        let (_, kind) = KEYS
            .iter()
            .find(|(known, _)| {
                if known.ends_with('.') {
                    key.starts_with(known)
                } else {
                    key == known
                }
            })
            .ok_or_else(|| unknown(key))?;
        kind.check(value).map_err(|why| invalid(key, why))?;
    }
    Ok(())
}
