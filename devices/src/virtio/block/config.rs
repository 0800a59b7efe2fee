//! What a block device is told and what it tells its driver: configuration, saved state, errors, configuration space.

use super::disk::Disk;
use super::qcow2::Qcow2Error;
use super::request::{MAX_DISCARD_SECTORS, MAX_WRITE_ZEROES_SECTORS, SECTOR, SERIAL_LEN};
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::rate_limiter::Limits;
use serde::{Deserialize, Serialize};
use std::io;
use virtio_bindings::virtio_blk as spec;

/// Bytes of a page of the host's cache.
const PHYSICAL_BLOCK: u64 = 4096;
/// Entries of each queue.
pub(super) const QUEUE_SIZE: u16 = 256;
/// The most queues; more than virtual CPUs make no sense.
pub const QUEUES_MAX: u16 = 32;
/// Data segments in one request: what the queue holds, less header and status.
pub(super) const SEGMENTS_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// Offset of the capacity.
pub(super) const CAPACITY: usize = 0;
/// Offset of `writeback`: 1 if writes may stay in the host's cache until a flush. The driver may change it.
pub(super) const WRITEBACK: usize = 32;

/// How requests reach the host's kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// io_uring where the host allows it, threads otherwise.
    #[default]
    Auto,
    /// io_uring, or no device.
    IoUring,
    /// Plain system calls on a few threads of the disk's own.
    Threads,
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
    pub engine: EngineKind,
    /// Number of queues, 1 to 32. Each has a thread of its own, but one thread serves all queues of an image.
    pub queues: u16,
    /// How much the guest may do.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            serial: String::new(),
            read_only: false,
            engine: EngineKind::Auto,
            queues: 1,
            limits: Limits::default(),
        }
    }
}

/// What can be changed while the guest runs; what is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// New size in bytes. The disk can only become larger; a regular file grows with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// New limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
    /// The size the guest knows.
    pub size_bytes: u64,
    /// Whether the driver has the write cache on.
    pub write_back: bool,
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
    /// The file or image cannot be used.
    #[error(transparent)]
    Image(#[from] Qcow2Error),
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
    #[error("io_uring cannot be used on this host; choose the engine \"threads\" or \"auto\"")]
    Uring(#[source] io::Error),
    /// No event descriptor for what has completed.
    #[error("cannot get an event descriptor for the disk's requests")]
    Event(#[source] io::Error),
}

/// The configuration space (§5.2.4).
pub(super) fn config_space(config: &Config, disk: &Disk) -> ConfigSpace {
    let mut space = vec![0; 60];
    let mut put = |offset: usize, bytes: &[u8]| {
        space
            .iter_mut()
            .skip(offset)
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    };
    put(CAPACITY, &(disk.size() / SECTOR).to_le_bytes());
    put(12, &SEGMENTS_MAX.to_le_bytes());
    // What requests should be aligned to is the logical block; a page of the host's cache is the physical one.
    let exponent = (PHYSICAL_BLOCK / disk.align()).trailing_zeros() as u8;
    let blocks = (PHYSICAL_BLOCK / disk.align()) as u16;
    put(20, &(disk.align() as u32).to_le_bytes());
    put(24, &[exponent, 0]);
    put(26, &blocks.to_le_bytes());
    put(WRITEBACK, &[1]);
    put(34, &config.queues.to_le_bytes());
    put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
    // One segment per request, aligned to what is given back together.
    put(40, &1u32.to_le_bytes());
    let alignment = (disk.cluster().max(disk.align()) / SECTOR) as u32;
    put(44, &alignment.to_le_bytes());
    put(48, &MAX_WRITE_ZEROES_SECTORS.to_le_bytes());
    put(52, &1u32.to_le_bytes());
    put(56, &[1]);
    ConfigSpace::new(space).with_writable(WRITEBACK..WRITEBACK + 1)
}

/// The features to offer (§5.2.3).
pub(super) fn features(config: &Config) -> u64 {
    let mut features = 1 << spec::VIRTIO_BLK_F_SEG_MAX
        | 1 << spec::VIRTIO_BLK_F_BLK_SIZE
        | 1 << spec::VIRTIO_BLK_F_TOPOLOGY
        | 1 << spec::VIRTIO_BLK_F_FLUSH
        | 1 << spec::VIRTIO_BLK_F_CONFIG_WCE;
    features |= match config.read_only {
        true => 1 << spec::VIRTIO_BLK_F_RO,
        false => 1 << spec::VIRTIO_BLK_F_DISCARD | 1 << spec::VIRTIO_BLK_F_WRITE_ZEROES,
    };
    if config.queues > 1 {
        features |= 1 << spec::VIRTIO_BLK_F_MQ;
    }
    features
}
