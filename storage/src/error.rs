//! What can go wrong with storage, one variant per thing a caller can act on.

use std::io;
use std::path::{Path, PathBuf};

use crate::volume::VolumeId;

/// An error of a caller's own making, such as the one that filling a new volume ended with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a storage operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name of a pool, volume or snapshot that cannot be a file name here.
    #[error("invalid {what} name {name:?}: {reason}")]
    InvalidName {
        /// What the name is for: "pool", "volume", "snapshot".
        what: &'static str,
        /// The refused name.
        name: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A pool configuration that names something this host cannot do.
    #[error("invalid storage pool configuration: {0}")]
    InvalidConfig(String),
    /// No such driver.
    #[error("unknown storage driver {0:?} (this build has: btrfs, dir)")]
    UnknownDriver(String),
    /// The pool's directory is not there.
    #[error("storage pool {name:?} has no directory {path:?}: is its source mounted?")]
    PoolMissing {
        /// The pool.
        name: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// A new pool's source already holds something.
    #[error("source path {0:?} isn't empty")]
    SourceNotEmpty(PathBuf),
    /// The pool still holds volumes.
    #[error("storage pool {name:?} still holds {count} volumes; delete them first")]
    PoolInUse {
        /// The pool.
        name: String,
        /// How many volumes and snapshots it holds.
        count: usize,
    },
    /// No such volume.
    #[error("storage volume {0} not found")]
    VolumeNotFound(VolumeId),
    /// The volume is there already.
    #[error("storage volume {0} already exists")]
    VolumeExists(VolumeId),
    /// No such snapshot.
    #[error("snapshot {snapshot:?} of storage volume {volume} not found")]
    SnapshotNotFound {
        /// The volume.
        volume: VolumeId,
        /// The snapshot asked for.
        snapshot: String,
    },
    /// The snapshot is there already.
    #[error("snapshot {snapshot:?} of storage volume {volume} already exists")]
    SnapshotExists {
        /// The volume.
        volume: VolumeId,
        /// The snapshot to be made.
        snapshot: String,
    },
    /// Source and destination of a copy hold different kinds of content.
    #[error("cannot copy {from} to {to}: one is a file system, the other a block device")]
    ContentMismatch {
        /// The source.
        from: VolumeId,
        /// The destination.
        to: VolumeId,
    },
    /// A block volume cannot get smaller: what lies beyond the new end would be lost.
    #[error("block volumes cannot be shrunk: {volume} has {current} bytes, {wanted} were asked for")]
    Shrink {
        /// The volume.
        volume: VolumeId,
        /// Its size now.
        current: u64,
        /// The size asked for.
        wanted: u64,
    },
    /// The file system below is full, or the volume's quota is.
    #[error("no space left in storage pool while {action} {path:?}")]
    NoSpace {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
    },
    /// Filling a new volume failed; the volume was not made.
    #[error("failed to fill volume {volume}")]
    Fill {
        /// The volume.
        volume: VolumeId,
        /// What the filling function said.
        #[source]
        source: BoxError,
    },
    /// An operating system call failed.
    #[error("failed {action} {path:?}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Wraps an operating system error, telling a full disk from the rest.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.as_ref().to_path_buf(), source.into());
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Self::NoSpace { action, path },
            _ => Self::Io { action, path, source },
        }
    }
}
