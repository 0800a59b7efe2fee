//! A pool: the operations on volumes and snapshots, the same for every driver.
//!
//! On disk a pool has one directory for each kind of volume and one for that kind's snapshots (`containers`,
//! `containers-snapshots`, …). All are closed to everyone but root, since the trees in them hold set-uid programs with
//! ids that belong to the instances' own users.

mod journal;
mod recovery;
mod snapshots;
mod volumes;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::driver::{self, Driver};
use crate::error::{Error, Result};
use crate::place;
use crate::volume::{ContentType, Resources, Space, VolumeId, VolumeKind, check_name, entry_name};

/// What a pool is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// The pool's name.
    pub name: String,
    /// `dir` or `btrfs`.
    pub driver: String,
    /// A directory to keep the volumes in, instead of one under the state directory.
    #[serde(default)]
    pub source: Option<PathBuf>,
    /// The remaining keys, as Incus names them.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

impl PoolConfig {
    /// The pool's directory.
    fn root(&self, state_dir: &Path) -> Result<PathBuf> {
        check_name("storage pool", &self.name)?;
        match &self.source {
            None => Ok(state_dir.join("storage-pools").join(&self.name)),
            Some(source) if source.is_absolute() => Ok(source.clone()),
            Some(source) => Err(Error::InvalidConfig(format!(
                "source path {source:?} is not absolute"
            ))),
        }
    }
}

/// An open storage pool. Shared freely between threads; two operations on the same volume are the caller's to keep apart.
#[derive(Debug)]
pub struct Pool {
    name: String,
    root: PathBuf,
    /// The directory was made for this pool and goes with it.
    owned: bool,
    driver: Box<dyn Driver>,
}

impl Pool {
    /// Makes a new pool. Its directory must be empty; one that holds nothing but a pool's own empty directories, left by
    /// a creation that was interrupted, counts as empty.
    pub fn create(config: &PoolConfig, state_dir: &Path) -> Result<Self> {
        let root = config.root(state_dir)?;
        match &config.source {
            None => make_dirs(&root, 0o711)?,
            Some(source) if source.is_dir() => {}
            Some(source) => {
                return Err(Error::InvalidConfig(format!(
                    "source path {source:?} doesn't exist or is no directory"
                )));
            }
        }
        if !is_fresh(&root)? {
            return Err(Error::SourceNotEmpty(root));
        }
        // Asked before anything is made: a driver that does not fit must not leave directories behind.
        let opened = driver::open(&config.driver, &root);
        let driver = match opened {
            Ok(driver) => driver,
            Err(error) => {
                if config.source.is_none() {
                    let _ = fs::remove_dir(&root);
                }
                return Err(error);
            }
        };
        for folder in folders() {
            make_dirs(&root.join(folder), 0o700)?;
            driver.prepare_folder(&root.join(folder));
        }
        place::sync_parent(&root.join("."))?;
        place::sync_parent(&root)?;
        Ok(Self {
            name: config.name.clone(),
            root,
            owned: config.source.is_none(),
            driver,
        })
    }

    /// Opens a pool that was made before. [`Pool::recover`] should follow.
    pub fn open(config: &PoolConfig, state_dir: &Path) -> Result<Self> {
        let root = config.root(state_dir)?;
        // A source that is not mounted is an empty directory; without this check, volumes would be made below the mount point.
        if !root.join(VolumeKind::Custom.folder()).is_dir() {
            return Err(Error::PoolMissing {
                name: config.name.clone(),
                path: root,
            });
        }
        let driver = driver::open(&config.driver, &root)?;
        Ok(Self {
            name: config.name.clone(),
            root,
            owned: config.source.is_none(),
            driver,
        })
    }

    /// Removes an empty pool. A directory that was named as its source stays, empty.
    pub fn destroy(&self) -> Result<()> {
        let mut count = self.list()?.len();
        for kind in VolumeKind::ALL {
            count += self.snapshot_owners(kind)?.len();
        }
        if count > 0 {
            return Err(Error::PoolInUse {
                name: self.name.clone(),
                count,
            });
        }
        self.recover()?;
        for folder in folders() {
            remove_dir(&self.root.join(folder))?;
        }
        if self.owned {
            remove_dir(&self.root)
        } else {
            Ok(())
        }
    }

    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The driver's name.
    pub fn driver(&self) -> &'static str {
        self.driver.name()
    }

    /// The pool's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The room in the file system that the pool is on.
    pub fn resources(&self) -> Result<Resources> {
        let stat = nix::sys::statvfs::statvfs(&self.root)
            .map_err(|error| Error::io("measuring", &self.root, error))?;
        let unit = stat.fragment_size();
        let space = |total: u64, free: u64, unit: u64| Space {
            used: total.saturating_sub(free).saturating_mul(unit),
            total: total.saturating_mul(unit),
        };
        Ok(Resources {
            space: space(stat.blocks(), stat.blocks_free(), unit),
            inodes: space(stat.files(), stat.files_free(), 1),
        })
    }

    /// Where a volume lies or would lie. A name that no volume can have gets a path at which nothing ever is.
    pub fn path(&self, id: &VolumeId) -> PathBuf {
        let folder = self.root.join(id.kind.folder());
        match check_name("volume", &id.name) {
            Ok(()) => folder.join(id.entry()),
            Err(_) => folder.join(".invalid"),
        }
    }

    /// Where a snapshot lies or would lie, in the manner of [`Pool::path`].
    pub fn snapshot_path(&self, id: &VolumeId, snapshot: &str) -> PathBuf {
        match check_name("snapshot", snapshot) {
            Ok(()) => self.snapshots_dir(id).join(entry_name(snapshot, id.content)),
            Err(_) => self.snapshots_dir(id).join(".invalid"),
        }
    }

    /// Whether the volume is there.
    pub fn exists(&self, id: &VolumeId) -> bool {
        is_there(&self.path(id), id.content)
    }

    /// The directory of a volume's snapshots, which is there only while there are some.
    fn snapshots_dir(&self, id: &VolumeId) -> PathBuf {
        let folder = self.root.join(id.kind.snapshot_folder());
        match check_name("volume", &id.name) {
            Ok(()) => folder.join(id.entry()),
            Err(_) => folder.join(".invalid"),
        }
    }

    /// Directories of snapshots of one kind of volume.
    fn snapshot_owners(&self, kind: VolumeKind) -> Result<Vec<String>> {
        let mut names = place::names(&self.root.join(kind.snapshot_folder()))?;
        names.retain(|name| !place::is_temporary(name));
        Ok(names)
    }
}

/// All directories of a pool.
fn folders() -> impl Iterator<Item = &'static str> {
    VolumeKind::ALL
        .into_iter()
        .flat_map(|kind| [kind.folder(), kind.snapshot_folder()])
}

/// Whether an entry is there, in the form that the content takes.
fn is_there(path: &Path, content: ContentType) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| match content {
        ContentType::Filesystem => found.is_dir(),
        ContentType::Block => found.is_file(),
    })
}

/// Whether a directory is empty, or holds no more than an interrupted [`Pool::create`] leaves.
fn is_fresh(root: &Path) -> Result<bool> {
    for entry in fs::read_dir(root).map_err(|error| Error::io("reading", root, error))? {
        let entry = entry.map_err(|error| Error::io("reading", root, error))?;
        let ours = folders().any(|folder| entry.file_name() == *folder);
        // A file system of its own has this one from the start.
        let lost_and_found = entry.file_name() == "lost+found";
        if !(ours || lost_and_found)
            || !fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none())
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn make_dirs(path: &Path, mode: u32) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| Error::io("creating", parent, error))?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("creating", path, error)),
    }
}

/// Removes an empty directory; nothing there is no error.
fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "crash_tests.rs"]
mod crash_tests;
#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
