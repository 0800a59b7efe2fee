//! Keys of the server.

use api::Map;

use super::values::Kind;
use super::{invalid, unknown};
use crate::ApiError;

const KEYS: &[(&str, Kind)] = &[
    ("core.shutdown_timeout", Kind::Uint32),
    ("images.auto_update_cached", Kind::Bool),
    ("images.auto_update_interval", Kind::Int64),
    (
        "images.compression_algorithm",
        Kind::OneOf(&["none", "gzip", "xz", "zstd"]),
    ),
    ("images.default_architecture", Kind::Any),
    ("images.remote_cache_expiry", Kind::Int64),
    ("instances.nic.host_name", Kind::OneOf(&["random", "mac"])),
];

/// Keys of Incus that we know and do not have; the message says so rather than that they are unknown.
const NOT_YET: &[&str] = &[
    "acme.",
    "cluster.",
    "core.",
    "instances.",
    "loki.",
    "logging.",
    "network.",
    "oidc.",
    "openfga.",
    "storage.",
];

/// Checks the server's configuration.
pub fn check_server_config(config: &Map) -> Result<(), ApiError> {
    for (key, value) in config {
        if key.starts_with("user.") {
            continue;
        }
        let Some((_, kind)) = KEYS.iter().find(|(known, _)| key == known) else {
            if NOT_YET.iter().any(|prefix| key.starts_with(prefix)) {
                return Err(ApiError::bad_request(format!(
                    "Cannot set {key:?} to {value:?}: this server does not support the key"
                )));
            }
            return Err(unknown(key));
        };
        kind.check(value).map_err(|why| invalid(key, why))?;
    }
    Ok(())
}
