//! What a console is made of, what a snapshot holds of it, and what can be changed.

use serde::{Deserialize, Serialize};

/// The most ports of a device: each has two queues with their descriptors and interrupts.
pub const MAX_PORTS: usize = 16;

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Size {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self {
            columns: 80,
            rows: 24,
        }
    }
}

impl Size {
    /// As the configuration space (§5.3.4) and the message of a change (§5.3.6.2) have it.
    pub(super) fn to_bytes(self) -> [u8; 4] {
        let ([c0, c1], [r0, r1]) = (self.columns.to_le_bytes(), self.rows.to_le_bytes());
        [c0, c1, r0, r1]
    }
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PortConfig {
    /// What the guest knows it by; empty if it is only a number. The first port's is never told to a driver that knows of one
    /// port only.
    pub name: String,
    /// Whether it is a terminal of the guest (`hvc0` and so on), or a channel for programs. The first port always is one.
    pub terminal: bool,
    /// The terminal's size.
    pub size: Size,
}

/// A change while the guest runs: a terminal's size.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    /// Name of the terminal; without one, the first port.
    #[serde(default)]
    pub port: Option<String>,
    /// Width in characters, at least 1.
    pub columns: u16,
    /// Height in lines, at least 1.
    pub rows: u16,
}
