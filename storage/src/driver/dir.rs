//! The `dir` driver: volumes are plain directories and files on whatever file system is there.
//!
//! Copies share their extents where the file system can (btrfs, XFS, bcachefs: `FICLONE`) and are full copies elsewhere. Sizes of
//! trees are kept to where the file system has project quotas switched on (mount option `prjquota`), and are
//! otherwise recorded but not enforced, as with Incus' driver of the same name.

use std::fs::{self, DirBuilder};
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::Driver;
use super::project_quota::ProjectQuota;
use crate::error::{Error, Result};
use crate::tree;

/// linux/fs.h: `FS_TOPDIR_FL`.
const TOPDIR: libc::c_int = 0x0002_0000;

// linux/fs.h: FS_IOC_GETFLAGS and FS_IOC_SETFLAGS, declared for a long, used with an int.
nix::ioctl_read_bad!(
    get_flags,
    nix::request_code_read!(b'f', 1, size_of::<libc::c_long>()),
    libc::c_int
);
nix::ioctl_write_ptr_bad!(
    set_flags,
    nix::request_code_write!(b'f', 2, size_of::<libc::c_long>()),
    libc::c_int
);

/// The driver's name in the API.
pub(super) const NAME: &str = "dir";

/// Plain directories.
#[derive(Debug)]
pub(super) struct Dir {
    quota: Option<ProjectQuota>,
}

impl Dir {
    /// Opens the driver for a pool in `root`.
    pub(super) fn open(root: &Path) -> Self {
        Self {
            quota: ProjectQuota::open(root),
        }
    }
}

impl Driver for Dir {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Tells ext4 that trees in this directory have nothing to do with each other (`chattr +T`, ext4(5), "Orlov"), so each starts in
    /// another block group. Together they would share one, where making inodes is slow for minutes after some were deleted: ext4
    /// looks through all of those lest it reuses one too soon.
    fn prepare_folder(&self, folder: &Path) {
        let Ok(dir) = fs::File::open(folder) else { return };
        let mut flags: libc::c_int = 0;
        // SAFETY: the kernel writes one int to `flags`, which lives through the call.
        if unsafe { get_flags(dir.as_raw_fd(), &raw mut flags) }.is_err() || flags & TOPDIR != 0 {
            return;
        }
        let wanted = flags | TOPDIR;
        // SAFETY: the kernel reads one int from `wanted`, which lives through the call.
        // Other file systems refuse the flag, which is as well.
        let _ = unsafe { set_flags(dir.as_raw_fd(), &raw const wanted) };
    }

    fn make_tree(&self, path: &Path, limit: Option<u64>) -> Result<()> {
        DirBuilder::new()
            .mode(0o711)
            .create(path)
            .map_err(|error| Error::io("creating", path, error))?;
        // Before there are contents: what is made below takes the project over from its directory.
        match limit {
            Some(_) => self.set_limit(path, limit),
            None => Ok(()),
        }
    }

    fn copy_tree(&self, from: &Path, to: &Path, limit: Option<u64>) -> Result<()> {
        self.make_tree(to, limit)?;
        tree::copy_tree(from, to)
    }

    fn snapshot_tree(&self, from: &Path, to: &Path) -> Result<()> {
        self.copy_tree(from, to, None)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        if let Some(quota) = &self.quota
            && fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
        {
            quota.forget(path);
        }
        tree::remove(path)
    }

    fn set_limit(&self, path: &Path, bytes: Option<u64>) -> Result<()> {
        match &self.quota {
            Some(quota) => quota.set(path, bytes),
            None => Ok(()),
        }
    }

    fn limit(&self, path: &Path) -> Result<Option<u64>> {
        match &self.quota {
            Some(quota) => quota.limit(path),
            None => Ok(None),
        }
    }

    fn usage(&self, path: &Path) -> Result<u64> {
        match self.quota.as_ref().and_then(|quota| quota.usage(path)) {
            Some(bytes) => Ok(bytes),
            None => tree::usage(path),
        }
    }
}
