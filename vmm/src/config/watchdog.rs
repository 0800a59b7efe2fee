//! The watchdog.

use serde::{Deserialize, Serialize};

/// A watchdog that the guest starts and feeds (Intel 6300ESB).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchdogConfig {
    /// What happens when the guest does not feed it in time.
    #[serde(default)]
    pub action: WatchdogAction,
}

/// What a watchdog does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchdogAction {
    /// The VM ends as if the guest had asked for a reset.
    #[default]
    Reset,
    /// The VM ends as if the guest had powered off.
    Poweroff,
    /// The VM ends as if the guest's kernel had panicked.
    Panic,
    /// It is counted and logged.
    None,
}
