//! Putting things in their place: temporary names, renames that never overwrite, and swaps.
//!
//! A temporary lies in the directory it will be renamed within, under a name that no volume can have (a leading dot), so that
//! recovery knows it by its name alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::error::{Error, Result};

/// What every temporary's name starts with.
const TEMPORARY: &str = ".tmp-";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name beside `place` that nothing else uses.
pub(crate) fn temporary(place: &Path) -> PathBuf {
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = place.with_file_name(format!("{TEMPORARY}{}-{number}", std::process::id()));
        // An earlier process with our id may have left one that recovery has not swept yet.
        if fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

/// Whether a directory entry is a temporary.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// Renames to a name that must be free.
pub(crate) fn rename_to_free(from: &Path, to: &Path) -> std::result::Result<(), Errno> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        // Some file systems know no flags (overlay's lower, old FUSE). The daemon is alone in its pool, so asking first is enough.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            if fs::symlink_metadata(to).is_ok() {
                return Err(Errno::EEXIST);
            }
            fs::rename(from, to).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        }
        other => other,
    }
}

/// Swaps two entries in one step.
pub(crate) fn exchange(one: &Path, other: &Path) -> Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
        .map_err(|error| Error::io("exchanging", other, error))
}

/// Makes the entries of the directory that holds `path` survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| Error::io("syncing", parent, error))
}

/// Makes everything written below the file system of `path` survive a power cut.
pub(crate) fn sync_all_below(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|error| Error::io("opening", path, error))?;
    nix::unistd::syncfs(&file).map_err(|error| Error::io("syncing", path, error))
}

/// The names in a directory; none if it is not there.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("reading", dir, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("reading", dir, error))?;
        // A name that is not UTF-8 is none of ours.
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
