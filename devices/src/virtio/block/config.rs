//! What a block device is told and what it tells its driver: configuration, saved state, errors, configuration space.

use super::disk::SECTOR;
use super::request::{MAX_DISCARD_SECTORS, MAX_WRITE_ZEROES_SECTORS, SERIAL_LEN};
use crate::virtio::rate_limiter::Limits;
use serde::{Deserialize, Serialize};
use std::io;
use virtio_bindings::virtio_blk as spec;

/// Entries of each queue.
pub(super) const QUEUE_SIZE: u16 = 256;
/// The most queues; more than virtual CPUs make no sense.
pub const QUEUES_MAX: u16 = 32;
/// Data segments in one request: what the queue holds, less header and status.
pub(super) const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// How requests reach the host's kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// io_uring where the host allows it, plain system calls otherwise.
    #[default]
    Auto,
    /// io_uring, or no device.
    Uring,
    /// Plain system calls on the device's thread.
    Sync,
}

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The disk's serial number as the guest sees it; at most 20 bytes.
    pub serial: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// How requests reach the host's kernel.
    pub engine: Engine,
    /// Number of queues, 1 to 32. One thread serves them all.
    pub queues: u16,
    /// How much the guest may do.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            serial: String::new(),
            read_only: false,
            engine: Engine::Auto,
            queues: 1,
            limits: Limits::default(),
        }
    }
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
    /// The size the guest knows.
    pub size_bytes: u64,
}

/// Why a block device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The serial number does not fit.
    #[error("disk serial {0:?} is longer than {SERIAL_LEN} bytes")]
    SerialTooLong(String),
    /// No such number of queues.
    #[error("a disk cannot have {0} queues; choose 1 to {QUEUES_MAX}")]
    Queues(u16),
    /// The file's size cannot be found.
    #[error("cannot find the size of the disk")]
    Size(#[source] io::Error),
    /// The disk is another one than in the snapshot.
    #[error("the disk has {actual} bytes where the snapshot says {saved}")]
    SizeChanged {
        /// As saved.
        saved: u64,
        /// As found.
        actual: u64,
    },
    /// No timer for the limits.
    #[error("cannot get a timer for the disk's limits")]
    Timer(#[source] io::Error),
    /// io_uring was asked for by name.
    #[error("io_uring cannot be used on this host; choose the engine \"sync\" or \"auto\"")]
    Uring(#[source] io::Error),
}

/// The configuration space (§5.2.4).
pub(super) fn config_space(config: &Config, size: u64) -> Vec<u8> {
    let mut space = vec![0; 60];
    let mut put = |offset: usize, bytes: &[u8]| {
        space
            .iter_mut()
            .skip(offset)
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    };
    put(0, &(size / SECTOR).to_le_bytes());
    put(12, &SEGMENTS_MAX.to_le_bytes());
    put(20, &(SECTOR as u32).to_le_bytes());
    // Topology: 2³ sectors make a physical block of 4 KiB, like the page cache and most disks.
    put(24, &[3, 0, 8, 0]);
    put(34, &config.queues.to_le_bytes());
    put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
    // One segment per request, aligned to physical blocks.
    put(40, &1u32.to_le_bytes());
    put(44, &8u32.to_le_bytes());
    put(48, &MAX_WRITE_ZEROES_SECTORS.to_le_bytes());
    put(52, &1u32.to_le_bytes());
    put(56, &[1]);
    space
}

/// The features to offer (§5.2.3).
pub(super) fn features(config: &Config) -> u64 {
    let mut features = 1 << spec::VIRTIO_BLK_F_SEG_MAX
        | 1 << spec::VIRTIO_BLK_F_BLK_SIZE
        | 1 << spec::VIRTIO_BLK_F_TOPOLOGY
        | 1 << spec::VIRTIO_BLK_F_FLUSH;
    features |= match config.read_only {
        true => 1 << spec::VIRTIO_BLK_F_RO,
        false => 1 << spec::VIRTIO_BLK_F_DISCARD | 1 << spec::VIRTIO_BLK_F_WRITE_ZEROES,
    };
    if config.queues > 1 {
        features |= 1 << spec::VIRTIO_BLK_F_MQ;
    }
    features
}
