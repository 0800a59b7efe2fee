//! Configuration keys: which exist, what values they take, and how values read. One table per kind of resource; the
//! instances, profiles and every other resource check with these and nothing else.
//!
//! Incus refuses unknown keys with 400 and a message; so do we, in its words.

mod devices;
mod instance;
mod project;
mod server;
mod storage;
mod units;
mod values;

pub use devices::check_devices;
pub use instance::{check_instance_config, check_instance_key};
pub use project::check_project_config;
pub use server::check_server_config;
pub use storage::{check_pool_config, check_volume_config};
pub use units::{parse_bytes, parse_duration};
pub use values::{is_false, is_true};

use crate::ApiError;

/// Refuses an unknown key in Incus' words.
fn unknown(key: &str) -> ApiError {
    ApiError::bad_request(format!("Unknown configuration key: {key}"))
}

/// Refuses a value.
fn invalid(key: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("Invalid value for config key {key:?}: {why}"))
}

#[cfg(test)]
#[path = "config_keys_tests.rs"]
mod tests;
