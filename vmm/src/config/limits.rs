//! Limits on what a device may do.

pub use devices::virtio::rate_limiter::Limits;

use super::error::{ConfigError, refuse};

/// Checks the limits that the document has at `field`: a burst is part of a limit.
pub fn check_limits(field: &str, limits: &Limits) -> Result<(), ConfigError> {
    for (name, burst, rate) in [
        ("bytes", limits.bytes_burst, limits.bytes_per_second),
        (
            "operations",
            limits.operations_burst,
            limits.operations_per_second,
        ),
    ] {
        if let (Some(burst), None) = (burst, rate) {
            let problem = format!("set `{name}_per_second`, too");
            return Err(refuse(format!("{field}.{name}_burst"), burst, problem));
        }
    }
    Ok(())
}
