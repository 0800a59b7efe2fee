//! What a socket device is told and what it tells: configuration, saved state, errors, counters.

use crate::metrics::Counter;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The guest's address, at least 3.
    pub cid: u32,
    /// Where host programs connect; the guest's connections to port N go to this path with `_N` appended.
    pub socket: PathBuf,
}

/// What a snapshot holds. Connections do not survive: they end in the restored guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
}

/// Why a socket device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// The address belongs to somebody else.
    #[error("vsock address {0} is reserved; choose 3 to 4294967294")]
    Cid(u32),
    /// The socket cannot be listened at.
    #[error("cannot listen at {path:?}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No timer.
    #[error("cannot get a timer for the vsock device")]
    Timer(#[source] io::Error),
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct VsockMetrics {
    /// Connections opened by either side.
    pub connections: Counter,
    /// Connections that were refused by either side.
    pub refused: Counter,
    /// Bytes to the guest.
    pub bytes_to_guest: Counter,
    /// Bytes from the guest.
    pub bytes_from_guest: Counter,
    /// Packets of the guest that made no sense.
    pub invalid_packets: Counter,
}
