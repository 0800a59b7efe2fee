//! Making, copying, growing, renaming and deleting volumes.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::journal::Intent;
use super::{Pool, is_there};
use crate::driver::Driver;
use crate::error::{BoxError, Error, Result};
use crate::volume::{BLOCK_SUFFIX, ContentType, VolumeId, VolumeKind, check_name};
use crate::{place, steps};

/// Block volumes are whole pages, which all sector sizes divide.
const BLOCK_GRAIN: u64 = 4096;

/// Something being made under a temporary name. Unless it is put in its place, it goes when this does.
pub(super) struct Draft<'a> {
    driver: &'a dyn Driver,
    path: PathBuf,
    placed: bool,
}

impl<'a> Draft<'a> {
    /// Picks a name beside `target`; nothing is there yet.
    pub(super) fn beside(target: &Path, driver: &'a dyn Driver) -> Self {
        Self {
            driver,
            path: place::temporary(target),
            placed: false,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Renames to `target`, which must be free, for good.
    pub(super) fn place(mut self, target: &Path) -> std::result::Result<(), Errno> {
        steps::done("draft finished");
        place::rename_to_free(&self.path, target)?;
        self.placed = true;
        steps::done("draft placed");
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = self.driver.remove(&self.path)
        {
            tracing::warn!(path = ?self.path, %error, "leaving a half-made volume to the next recovery");
        }
    }
}

impl Pool {
    /// Makes a volume. `fill` is given its path, an empty directory or a raw disk of `size` bytes, under a temporary name;
    /// only when it succeeds is there a volume at all.
    pub fn create_volume(
        &self,
        id: &VolumeId,
        size: Option<u64>,
        fill: &mut dyn FnMut(&Path) -> std::result::Result<(), BoxError>,
    ) -> Result<()> {
        let target = self.free_place(id)?;
        let draft = Draft::beside(&target, &*self.driver);
        match id.content {
            ContentType::Filesystem => self.driver.make_tree(draft.path(), size)?,
            ContentType::Block => {
                let disk = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(draft.path())
                    .map_err(|error| Error::io("creating", draft.path(), error))?;
                grow(id, draft.path(), &disk, size)?;
            }
        }
        steps::done("draft made");
        fill(draft.path()).map_err(|source| fill_error(id, &target, source))?;
        if id.content == ContentType::Block {
            let disk = open_disk(draft.path())?;
            grow(id, draft.path(), &disk, size)?;
        }
        if id.kind == VolumeKind::Image {
            // Every later instance comes from it, and nobody would unpack it a second time.
            place::sync_all_below(draft.path())?;
        }
        place_volume(draft, id, &target)?;
        place::sync_parent(&target)
    }

    /// Makes `dst` a copy of `src`: sharing its blocks where the file system can, else a full copy that keeps holes.
    pub fn copy_volume(&self, src: &VolumeId, dst: &VolumeId, size: Option<u64>) -> Result<()> {
        self.copy_volume_from(self, src, dst, size)
    }

    /// As [`Pool::copy_volume`], from a volume of another pool.
    pub fn copy_volume_from(
        &self,
        from: &Self,
        src: &VolumeId,
        dst: &VolumeId,
        size: Option<u64>,
    ) -> Result<()> {
        let source = from.present(src)?;
        self.copy_into(&source, src, dst, size)
    }

    /// Copies what lies at `source`, `src` or a snapshot of it, to a new volume.
    pub(super) fn copy_into(
        &self,
        source: &Path,
        src: &VolumeId,
        dst: &VolumeId,
        size: Option<u64>,
    ) -> Result<()> {
        if src.content != dst.content {
            return Err(Error::ContentMismatch {
                from: src.clone(),
                to: dst.clone(),
            });
        }
        let target = self.free_place(dst)?;
        let draft = Draft::beside(&target, &*self.driver);
        match dst.content {
            ContentType::Filesystem => self.driver.copy_tree(source, draft.path(), size)?,
            ContentType::Block => {
                // Asked first: a copy that cannot be used should not take its time.
                check_growth(dst, disk_size(source)?, size)?;
                self.driver.copy_disk(source, draft.path())?;
                grow(dst, draft.path(), &open_disk(draft.path())?, size)?;
            }
        }
        // Not synced: like what a guest writes, a copy reaches the disk when the kernel writes back. What is promised across a
        // power cut is the image it came from; syncing thousands of files would take longer than everything else of a launch.
        place_volume(draft, dst, &target)
    }

    /// Deletes the volume with its snapshots. Nothing to delete is no error.
    pub fn delete_volume(&self, id: &VolumeId) -> Result<()> {
        check_name("volume", &id.name)?;
        if self.snapshots_dir(id).is_dir() {
            return self.carry_out(&Intent::Delete { id: id.clone() });
        }
        self.discard(&self.path(id))
    }

    /// Renames the volume, and its snapshots with it.
    pub fn rename(&self, id: &VolumeId, new: &str) -> Result<()> {
        self.present(id)?;
        let to = VolumeId {
            name: new.to_owned(),
            ..id.clone()
        };
        let target = self.free_place(&to)?;
        if self.snapshots_dir(id).is_dir() {
            return self.carry_out(&Intent::Rename { from: id.clone(), to });
        }
        place::rename_to_free(&self.path(id), &target)
            .map_err(|error| Error::io("renaming", &target, error))?;
        place::sync_parent(&target)
    }

    /// Sets the volume's size. A block volume grows, sparsely; a file system's limit is set where the driver can, and lifted by 0.
    pub fn resize(&self, id: &VolumeId, bytes: u64) -> Result<()> {
        let path = self.present(id)?;
        match id.content {
            ContentType::Filesystem => self.driver.set_limit(&path, (bytes > 0).then_some(bytes)),
            ContentType::Block => grow(id, &path, &open_disk(&path)?, Some(bytes)),
        }
    }

    /// Bytes that the volume takes on disk.
    pub fn usage(&self, id: &VolumeId) -> Result<u64> {
        self.driver.usage(&self.present(id)?)
    }

    /// A block volume's size, or the limit of a file system if it has one.
    pub fn size(&self, id: &VolumeId) -> Result<Option<u64>> {
        let path = self.present(id)?;
        match id.content {
            ContentType::Filesystem => self.driver.limit(&path),
            ContentType::Block => disk_size(&path).map(Some),
        }
    }

    /// All volumes, by kind and name.
    pub fn list(&self) -> Result<Vec<VolumeId>> {
        let mut volumes = Vec::new();
        for kind in VolumeKind::ALL {
            let folder = self.root.join(kind.folder());
            for entry in place::names(&folder)? {
                if place::is_temporary(&entry) {
                    continue;
                }
                let content = match entry.strip_suffix(BLOCK_SUFFIX) {
                    Some(_) => ContentType::Block,
                    None => ContentType::Filesystem,
                };
                let name = entry.strip_suffix(BLOCK_SUFFIX).unwrap_or(&entry);
                // Anything else was put here by somebody else, and is not ours to offer.
                if check_name("volume", name).is_ok() && is_there(&folder.join(&entry), content) {
                    volumes.push(VolumeId::new(kind, content, name));
                }
            }
        }
        Ok(volumes)
    }

    /// The path of a volume that must be there.
    pub(super) fn present(&self, id: &VolumeId) -> Result<PathBuf> {
        check_name("volume", &id.name)?;
        let path = self.path(id);
        if is_there(&path, id.content) {
            Ok(path)
        } else {
            Err(Error::VolumeNotFound(id.clone()))
        }
    }

    /// The path of a volume that must not be there.
    fn free_place(&self, id: &VolumeId) -> Result<PathBuf> {
        check_name("volume", &id.name)?;
        let path = self.path(id);
        match fs::symlink_metadata(&path) {
            Ok(_) => Err(Error::VolumeExists(id.clone())),
            Err(_) => Ok(path),
        }
    }

    /// Takes an entry away in one step, then removes it. Nothing there is no error.
    pub(super) fn discard(&self, path: &Path) -> Result<()> {
        let away = place::temporary(path);
        match fs::rename(path, &away) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io("removing", path, error)),
        }
        steps::done("taken away");
        self.driver.remove(&away)?;
        steps::done("removed");
        Ok(())
    }
}

fn place_volume(draft: Draft<'_>, id: &VolumeId, target: &Path) -> Result<()> {
    draft.place(target).map_err(|error| match error {
        Errno::EEXIST => Error::VolumeExists(id.clone()),
        error => Error::io("placing", target, error),
    })
}

/// Tells a full disk from other reasons why filling a volume failed.
fn fill_error(id: &VolumeId, target: &Path, source: BoxError) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&*source);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
        {
            return Error::NoSpace {
                action: "filling",
                path: target.to_path_buf(),
            };
        }
        cause = error.source();
    }
    Error::Fill {
        volume: id.clone(),
        source,
    }
}

fn open_disk(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|error| Error::io("opening", path, error))
}

fn disk_size(path: &Path) -> Result<u64> {
    let found = fs::symlink_metadata(path).map_err(|error| Error::io("measuring", path, error))?;
    Ok(found.len())
}

fn check_growth(volume: &VolumeId, current: u64, wanted: Option<u64>) -> Result<()> {
    match wanted {
        Some(wanted) if wanted.div_ceil(BLOCK_GRAIN).saturating_mul(BLOCK_GRAIN) < current => {
            Err(Error::Shrink {
                volume: volume.clone(),
                current,
                wanted,
            })
        }
        _ => Ok(()),
    }
}

/// Makes a raw disk at least as large as asked for, rounded up to whole pages; never smaller.
fn grow(volume: &VolumeId, path: &Path, disk: &File, size: Option<u64>) -> Result<()> {
    let fail = |error| Error::io("growing", path, error);
    let current = disk.metadata().map_err(fail)?.len();
    check_growth(volume, current, size)?;
    let Some(wanted) = size.unwrap_or(current).checked_next_multiple_of(BLOCK_GRAIN) else {
        return Err(fail(io::Error::from_raw_os_error(libc::EFBIG)));
    };
    if wanted > current {
        disk.set_len(wanted).map_err(fail)
    } else {
        Ok(())
    }
}
