//! The memory balloon.

use devices::virtio::balloon::{self, Balloon};

use super::{AttachError, Made, failed};
use crate::config::{BalloonConfig, VmConfig};

/// Makes the balloon.
pub(super) fn make(config: &VmConfig, balloon: &BalloonConfig) -> Result<Made, AttachError> {
    let device = Balloon::new(balloon::Config {
        memory_bytes: config.memory_bytes,
        target_bytes: balloon.target_bytes,
        deflate_on_oom: balloon.deflate_on_oom,
        reporting: balloon.reporting,
        statistics_interval_s: balloon.statistics_interval_s,
    })
    .map_err(failed("balloon", "balloon", "a timer"))?;
    Ok(Made::new("balloon", "balloon", device))
}
