//! Snapshots of volumes: copies that stay as they are, kept under the volume's name.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::volumes::Draft;
use super::{Pool, is_there};
use crate::error::{Error, Result};
use crate::volume::{BLOCK_SUFFIX, ContentType, VolumeId, check_name};
use crate::{place, steps};

impl Pool {
    /// Keeps the volume's present state as `snapshot`. On a driver that copies file by file the volume should be at rest.
    pub fn snapshot_create(&self, id: &VolumeId, snapshot: &str) -> Result<()> {
        let source = self.present(id)?;
        self.add_snapshot(&source, id, snapshot)
    }

    /// Gives `dst`, which is there, a snapshot that equals one of `src`: how a copy takes its history along.
    pub fn copy_snapshot(&self, src: &VolumeId, snapshot: &str, dst: &VolumeId) -> Result<()> {
        self.copy_snapshot_from(self, src, snapshot, dst)
    }

    /// As [`Pool::copy_snapshot`], from a volume of another pool.
    pub fn copy_snapshot_from(
        &self,
        from: &Self,
        src: &VolumeId,
        snapshot: &str,
        dst: &VolumeId,
    ) -> Result<()> {
        let source = from.present_snapshot(src, snapshot)?;
        self.present(dst)?;
        if src.content != dst.content {
            return Err(Error::ContentMismatch {
                from: src.clone(),
                to: dst.clone(),
            });
        }
        self.add_snapshot(&source, dst, snapshot)
    }

    /// Deletes a snapshot. Nothing to delete is no error.
    pub fn snapshot_delete(&self, id: &VolumeId, snapshot: &str) -> Result<()> {
        check_name("volume", &id.name)?;
        check_name("snapshot", snapshot)?;
        self.discard(&self.snapshot_path(id, snapshot))?;
        // Goes with its last snapshot; until then the call fails, which is fine.
        let _ = fs::remove_dir(self.snapshots_dir(id));
        Ok(())
    }

    /// Puts the volume back to the state of a snapshot, in one step: at any time it is either as before or as then. Its limit stays.
    /// Nothing may have the volume in use.
    pub fn snapshot_restore(&self, id: &VolumeId, snapshot: &str) -> Result<()> {
        let source = self.present_snapshot(id, snapshot)?;
        let target = self.present(id)?;
        let draft = Draft::beside(&target, &*self.driver);
        match id.content {
            ContentType::Filesystem => {
                let limit = self.driver.limit(&target)?;
                self.driver.copy_tree(&source, draft.path(), limit)?;
            }
            ContentType::Block => self.driver.copy_disk(&source, draft.path())?,
        }
        steps::done("restored beside");
        place::exchange(draft.path(), &target)?;
        steps::done("exchanged");
        place::sync_parent(&target)
        // The draft is now the former state, and goes.
    }

    /// Renames a snapshot.
    pub fn snapshot_rename(&self, id: &VolumeId, snapshot: &str, new: &str) -> Result<()> {
        let path = self.present_snapshot(id, snapshot)?;
        check_name("snapshot", new)?;
        let target = self.snapshot_path(id, new);
        place::rename_to_free(&path, &target).map_err(|error| snapshot_error(error, id, new, &target))?;
        place::sync_parent(&target)
    }

    /// Names of the volume's snapshots, sorted.
    pub fn snapshots(&self, id: &VolumeId) -> Result<Vec<String>> {
        check_name("volume", &id.name)?;
        let folder = self.snapshots_dir(id);
        let mut names = Vec::new();
        for entry in place::names(&folder)? {
            let name = match id.content {
                ContentType::Filesystem => Some(entry.as_str()),
                ContentType::Block => entry.strip_suffix(BLOCK_SUFFIX),
            };
            if let Some(name) = name
                && check_name("snapshot", name).is_ok()
                && is_there(&folder.join(&entry), id.content)
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Bytes that a snapshot takes on disk, shared ones included.
    pub fn snapshot_usage(&self, id: &VolumeId, snapshot: &str) -> Result<u64> {
        self.driver.usage(&self.present_snapshot(id, snapshot)?)
    }

    /// Makes `dst` a copy of the volume as it was at a snapshot.
    pub fn copy_from_snapshot(
        &self,
        id: &VolumeId,
        snapshot: &str,
        dst: &VolumeId,
        size: Option<u64>,
    ) -> Result<()> {
        self.copy_from_snapshot_of(self, id, snapshot, dst, size)
    }

    /// As [`Pool::copy_from_snapshot`], from a volume of another pool.
    pub fn copy_from_snapshot_of(
        &self,
        from: &Self,
        id: &VolumeId,
        snapshot: &str,
        dst: &VolumeId,
        size: Option<u64>,
    ) -> Result<()> {
        let source = from.present_snapshot(id, snapshot)?;
        self.copy_into(&source, id, dst, size)
    }

    fn add_snapshot(&self, source: &Path, id: &VolumeId, snapshot: &str) -> Result<()> {
        check_name("snapshot", snapshot)?;
        let folder = self.snapshots_dir(id);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("creating", folder, error));
            }
            _ => {}
        }
        let outcome = self.fill_snapshot(source, id, snapshot);
        if outcome.is_err() {
            let _ = fs::remove_dir(&folder);
        }
        outcome
    }

    fn fill_snapshot(&self, source: &Path, id: &VolumeId, snapshot: &str) -> Result<()> {
        let target = self.snapshot_path(id, snapshot);
        if fs::symlink_metadata(&target).is_ok() {
            return Err(Error::SnapshotExists {
                volume: id.clone(),
                snapshot: snapshot.to_owned(),
            });
        }
        steps::done("snapshot folder made");
        let draft = Draft::beside(&target, &*self.driver);
        match id.content {
            ContentType::Filesystem => self.driver.snapshot_tree(source, draft.path())?,
            ContentType::Block => self.driver.copy_disk(source, draft.path())?,
        }
        draft
            .place(&target)
            .map_err(|error| snapshot_error(error, id, snapshot, &target))?;
        place::sync_parent(&target)
    }

    /// The path of a snapshot that must be there.
    fn present_snapshot(&self, id: &VolumeId, snapshot: &str) -> Result<PathBuf> {
        check_name("volume", &id.name)?;
        check_name("snapshot", snapshot)?;
        let path = self.snapshot_path(id, snapshot);
        if is_there(&path, id.content) {
            Ok(path)
        } else {
            Err(Error::SnapshotNotFound {
                volume: id.clone(),
                snapshot: snapshot.to_owned(),
            })
        }
    }
}

fn snapshot_error(error: Errno, id: &VolumeId, snapshot: &str, target: &Path) -> Error {
    match error {
        Errno::EEXIST => Error::SnapshotExists {
            volume: id.clone(),
            snapshot: snapshot.to_owned(),
        },
        error => Error::io("placing", target, error),
    }
}
