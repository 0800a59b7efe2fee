//! The `dir` driver: volumes are plain directories and files on whatever file system is there.
//!
//! Copies share their extents where the file system can (btrfs, XFS, bcachefs: `FICLONE`) and are full copies elsewhere. Sizes of
//! trees are kept to where the file system has project quotas switched on (mount option `prjquota`), and are
//! otherwise recorded but not enforced, as with Incus' driver of the same name.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::Driver;
use super::project_quota::ProjectQuota;
use crate::error::{Error, Result};
use crate::tree;

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
