//! What the user asks of a balloon, what a snapshot holds, and the configuration space (virtio 1.3 §5.5.4).

use crate::discard::PAGE;
use crate::virtio::config_space::ConfigSpace;
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use std::sync::Arc;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Memory of the guest: no balloon is greater.
    pub memory_bytes: u64,
    /// Size that the balloon shall have.
    pub target_bytes: u64,
    /// Whether the guest may take pages out of the balloon when it has no others.
    pub deflate_on_oom: bool,
    /// Whether the guest gives free pages back by itself.
    pub reporting: bool,
    /// Seconds between two requests for statistics; 0 for none.
    pub statistics_interval_s: u64,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
    /// Size of the balloon as the driver told it last.
    pub actual_bytes: u64,
    /// The request in which the driver waits for being asked for statistics.
    pub held_statistics: Option<u16>,
    /// The number of the last run of hints.
    pub hinting_run: u32,
}

/// What can be changed while the guest runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Size that the balloon shall have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<u64>,
    /// Seconds between two requests for statistics; 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics_interval_s: Option<u64>,
    /// Have the guest hint at its free pages, or end that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hinting: Option<HintingRun>,
}

/// What to do about hints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HintingRun {
    /// Begin a run.
    Start,
    /// End it: the guest may use the pages again.
    Stop,
}

/// Offsets.
const NUM_PAGES: usize = 0;
const ACTUAL: usize = 4;
const HINTING_COMMAND: usize = 8;
/// `poison_val` is the last field. Its feature is not offered: a guest that relies on what is in free pages must not
/// report them, because what they hold afterwards depends on what lies below the memory.
const LEN: usize = 16;

/// The configuration space. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Space(Arc<ConfigSpace>);

impl Default for Space {
    fn default() -> Self {
        Self(Arc::new(
            ConfigSpace::new(vec![0; LEN]).with_writable(ACTUAL..ACTUAL + 4),
        ))
    }
}

impl Space {
    pub(super) fn new(target_bytes: u64) -> Self {
        let space = Self::default();
        space.set_target_bytes(target_bytes);
        space
    }

    pub(super) fn bytes(&self) -> Arc<ConfigSpace> {
        self.0.clone()
    }

    fn set_pages(&self, offset: usize, bytes: u64) {
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        self.0.update(offset, &pages.to_le_bytes());
    }

    fn bytes_at(&self, offset: usize) -> u64 {
        u64::from(self.0.read_u32(offset as u64)) * PAGE
    }

    pub(super) fn target_bytes(&self) -> u64 {
        self.bytes_at(NUM_PAGES)
    }

    pub(super) fn set_target_bytes(&self, bytes: u64) {
        self.set_pages(NUM_PAGES, bytes);
    }

    pub(super) fn actual_bytes(&self) -> u64 {
        self.bytes_at(ACTUAL)
    }

    pub(super) fn set_actual_bytes(&self, bytes: u64) {
        self.set_pages(ACTUAL, bytes);
    }

    pub(super) fn set_hinting_command(&self, command: u32) {
        self.0.update(HINTING_COMMAND, &command.to_le_bytes());
    }
}

impl Serialize for Space {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut both = serializer.serialize_struct("Space", 2)?;
        both.serialize_field("target_bytes", &self.target_bytes())?;
        both.serialize_field("actual_bytes", &self.actual_bytes())?;
        both.end()
    }
}
