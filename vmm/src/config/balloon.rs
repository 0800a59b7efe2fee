//! The memory balloon.

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::memory::HugePages;
use super::{VmConfig, yes};

/// A virtio memory balloon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BalloonConfig {
    /// Memory that the guest is asked to give back.
    #[serde(default)]
    pub target_bytes: u64,
    /// Let the guest take some of it again rather than end programs.
    #[serde(default = "yes")]
    pub deflate_on_oom: bool,
    /// Have the guest give back what it does not use, all the time.
    #[serde(default = "yes")]
    pub reporting: bool,
    /// Seconds between two requests for the guest's statistics, which are in the metrics then; 0 for none.
    #[serde(default)]
    pub statistics_interval_s: u64,
}

impl BalloonConfig {
    /// Checks the balloon of this VM.
    pub(super) fn check(&self, config: &VmConfig) -> Result<(), ConfigError> {
        let (target, most) = (self.target_bytes, config.memory_bytes);
        if target > most || !target.is_multiple_of(4096) {
            let problem = format!("use a multiple of 4096 up to memory_bytes ({most})");
            return Err(refuse("balloon.target_bytes", target, problem));
        }
        if config.memory.hugepages.reserved_size().is_some() {
            let problem = format!(
                "pages that are set aside (memory.hugepages) cannot be given back; use {:?} or no balloon",
                HugePages::Transparent
            );
            return Err(refuse("balloon", "asked for", problem));
        }
        Ok(())
    }
}
