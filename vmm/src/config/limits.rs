//! Limits on what a device may do.

use devices::virtio::rate_limiter::BurstAlone;
pub use devices::virtio::rate_limiter::Limits;

use super::error::{ConfigError, refuse};

/// Checks the limits that the document has at `field`: a burst is part of a limit.
pub fn check_limits(field: &str, limits: &Limits) -> Result<(), ConfigError> {
    limits.check().map_err(|BurstAlone(name, burst)| {
        let problem = format!("set `{name}_per_second`, too");
        refuse(format!("{field}.{name}_burst"), burst, problem)
    })
}
