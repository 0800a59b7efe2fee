//! How a pool keeps its volumes: one driver a file, all behind [`Driver`].
//!
//! A driver knows paths, not volumes: it makes, copies, removes, limits and measures trees and files where the pool tells it to. The pool
//! sees to names, atomicity and order, so that they are right once for all drivers. Block volumes are plain sparse files in every driver so far.

mod btrfs;
mod btrfs_ioctl;
mod dir;
mod project_quota;

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::tree;

/// What differs between kinds of pools.
pub(crate) trait Driver: Send + Sync + fmt::Debug {
    /// The driver's name in the API.
    fn name(&self) -> &'static str;

    /// Readies a directory that volumes will be made in.
    fn prepare_folder(&self, _folder: &Path) {}

    /// Makes an empty tree at `path`, which is free, that may hold `limit` bytes.
    fn make_tree(&self, path: &Path, limit: Option<u64>) -> Result<()>;

    /// Makes a writable copy of a tree at `to`, which is free, that may hold `limit` bytes.
    fn copy_tree(&self, from: &Path, to: &Path, limit: Option<u64>) -> Result<()>;

    /// Makes a copy of a tree that is to stay as it is.
    fn snapshot_tree(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a tree or a file with all that belongs to it. Nothing there is no error.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Makes a copy of a raw disk.
    fn copy_disk(&self, from: &Path, to: &Path) -> Result<()> {
        tree::copy_file(from, to)
    }

    /// Limits what a tree may hold from now on; `None` lifts the limit. A driver that cannot limit does nothing.
    fn set_limit(&self, path: &Path, bytes: Option<u64>) -> Result<()>;

    /// What a tree may hold, if that is limited.
    fn limit(&self, path: &Path) -> Result<Option<u64>>;

    /// Bytes allocated by a tree or a disk.
    fn usage(&self, path: &Path) -> Result<u64>;
}

/// A driver of this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverInfo {
    /// Its name in the API.
    pub name: &'static str,
    /// Its version, as the API shows it.
    pub version: String,
}

/// The drivers that this host can use.
pub fn supported() -> Vec<DriverInfo> {
    let mut drivers = Vec::new();
    if btrfs::supported() {
        drivers.push(DriverInfo {
            name: btrfs::NAME,
            version: btrfs::version(),
        });
    }
    drivers.push(DriverInfo {
        name: dir::NAME,
        version: "1".to_owned(),
    });
    drivers
}

/// The driver `name` for a pool in the directory `root`.
pub(crate) fn open(name: &str, root: &Path) -> Result<Box<dyn Driver>> {
    match name {
        dir::NAME => Ok(Box::new(dir::Dir::open(root))),
        btrfs::NAME => Ok(Box::new(btrfs::Btrfs::open(root)?)),
        other => Err(Error::UnknownDriver(other.to_owned())),
    }
}
