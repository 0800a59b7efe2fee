//! The `btrfs` driver: a volume is a subvolume, a copy or snapshot of it is a snapshot, a size is a quota group's limit.
//!
//! The pool's directory must be on a btrfs file system. Subvolumes that a container makes inside its own are removed with it but
//! are not part of its snapshots: that is how btrfs snapshots work. Quota groups cost something at every commit, so they are switched on when the first size is set.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, statfs};

use super::{Driver, btrfs_ioctl as ioctl};
use crate::error::{Error, Result};
use crate::tree;

/// The driver's name in the API.
pub(super) const NAME: &str = "btrfs";

/// Whether the running kernel knows btrfs.
pub(super) fn supported() -> bool {
    fs::read_to_string("/proc/filesystems").is_ok_and(|known| {
        known
            .lines()
            .any(|line| line.split_whitespace().next_back() == Some(NAME))
    })
}

/// The driver is the kernel's, so its version is the kernel's.
pub(super) fn version() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| String::new(),
        |host| host.release().to_string_lossy().into_owned(),
    )
}

/// Subvolumes of a btrfs file system.
#[derive(Debug)]
pub(super) struct Btrfs;

impl Btrfs {
    /// Opens the driver for a pool in `root`.
    pub(super) fn open(root: &Path) -> Result<Self> {
        let found = statfs(root).map_err(|error| Error::io("examining", root, error))?;
        if found.filesystem_type() != BTRFS_SUPER_MAGIC {
            return Err(Error::InvalidConfig(format!(
                "{root:?} is not on a btrfs file system; name a directory on one as source, or use driver dir"
            )));
        }
        Ok(Self)
    }
}

impl Driver for Btrfs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn make_tree(&self, path: &Path, limit: Option<u64>) -> Result<()> {
        let fail = |error: std::io::Error| Error::io("creating subvolume", path, error);
        let (parent, name) = split(path).map_err(fail)?;
        ioctl::create(&parent, name).map_err(|error| fail(error.into()))?;
        fs::set_permissions(path, Permissions::from_mode(0o711)).map_err(fail)?;
        match limit {
            Some(_) => self.set_limit(path, limit),
            None => Ok(()),
        }
    }

    fn copy_tree(&self, from: &Path, to: &Path, limit: Option<u64>) -> Result<()> {
        if snapshot(from, to, false)? {
            return match limit {
                Some(_) => self.set_limit(to, limit),
                None => Ok(()),
            };
        }
        self.make_tree(to, limit)?;
        tree::copy_tree(from, to)
    }

    fn snapshot_tree(&self, from: &Path, to: &Path) -> Result<()> {
        if snapshot(from, to, true)? {
            Ok(())
        } else {
            self.copy_tree(from, to, None)
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let fail = |error: std::io::Error| Error::io("deleting subvolume", path, error);
        if !is_subvolume(path).map_err(fail)? {
            // The directory of a volume's snapshots, for example: subvolumes in it go in one step each.
            for name in fs::read_dir(path).into_iter().flatten().flatten() {
                if is_subvolume(&name.path()).map_err(fail)? {
                    self.remove(&name.path())?;
                }
            }
            return tree::remove_with(path, &unlock);
        }
        let (parent, name) = split(path).map_err(fail)?;
        let id = File::open(path)
            .ok()
            .and_then(|subvolume| ioctl::subvolume_id(&subvolume).ok());
        match ioctl::destroy(&parent, name) {
            // It holds subvolumes of its own, or the kernel forbids what it can do one by one.
            Err(Errno::ENOTEMPTY | Errno::EPERM | Errno::EBUSY) => tree::remove_with(path, &unlock)?,
            other => other.map_err(|error| fail(error.into()))?,
        }
        if let Some(id) = id {
            // Not there unless quotas are on, and then a leftover counter does no harm.
            let _ = ioctl::forget_qgroup(&parent, id);
        }
        Ok(())
    }

    fn set_limit(&self, path: &Path, bytes: Option<u64>) -> Result<()> {
        let fail = |error: std::io::Error| Error::io("limiting", path, error);
        let subvolume = File::open(path).map_err(fail)?;
        let limit = || ioctl::limit(&subvolume, bytes.unwrap_or(0));
        match limit() {
            Err(Errno::ENOTCONN | Errno::EINVAL) if bytes.is_none() => Ok(()),
            // Quotas are off so far. What is there is counted before the limit means anything.
            Err(Errno::ENOTCONN | Errno::EINVAL) => ioctl::enable_quota(&subvolume)
                .and_then(|()| limit())
                .map_err(|error| fail(error.into())),
            other => other.map_err(|error| fail(error.into())),
        }
    }

    fn limit(&self, path: &Path) -> Result<Option<u64>> {
        let fail = |error: std::io::Error| Error::io("measuring", path, error);
        let subvolume = File::open(path).map_err(fail)?;
        ioctl::referenced_limit(&subvolume).map_err(|error| fail(error.into()))
    }

    fn usage(&self, path: &Path) -> Result<u64> {
        let fail = |error: std::io::Error| Error::io("measuring", path, error);
        if is_subvolume(path).map_err(fail)? {
            let subvolume = File::open(path).map_err(fail)?;
            if let Some(bytes) = ioctl::referenced(&subvolume).map_err(|error| fail(error.into()))? {
                return Ok(bytes);
            }
        }
        tree::usage(path)
    }
}

/// The open directory of an entry, and the entry's name.
fn split(path: &Path) -> std::io::Result<(File, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((File::open(parent)?, name)),
        _ => Err(Errno::EINVAL.into()),
    }
}

/// Whether the entry is the top of a subvolume. Nothing there is none.
fn is_subvolume(path: &Path) -> std::io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(found.is_dir()
            && found.ino() == ioctl::TOP_INODE
            && statfs(path)?.filesystem_type() == BTRFS_SUPER_MAGIC),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a snapshot. Returns whether it could: the source may be no subvolume, or on another file system.
fn snapshot(from: &Path, to: &Path, read_only: bool) -> Result<bool> {
    let fail = |error: std::io::Error| Error::io("making a snapshot of", from, error);
    if !is_subvolume(from).map_err(fail)? {
        return Ok(false);
    }
    let source = File::open(from).map_err(fail)?;
    let (parent, name) = split(to).map_err(fail)?;
    match ioctl::snapshot(&source, &parent, name, read_only) {
        Ok(()) => Ok(true),
        Err(Errno::EXDEV) => Ok(false),
        Err(error) => Err(fail(error.into())),
    }
}

/// Makes a directory writable if it is the top of a read-only subvolume.
fn unlock(dir: std::os::fd::BorrowedFd<'_>) {
    // The removal that follows tells whether it helped.
    let _ = ioctl::make_writable(dir);
}
