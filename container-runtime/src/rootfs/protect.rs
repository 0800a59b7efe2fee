//! Paths that are hidden or read-only (OCI runtime-spec, config-linux.md "Masked Paths", "Readonly Paths").

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use super::lookup::RootDir;
use super::mounts::is_directory;
use crate::sys::mount::{attach, attr, change, clone_tree, new_fs};
use crate::{Error, Result};

/// Kernels differ in what they have below /proc and /sys: what is not there needs no protection.
fn existing(root: &RootDir, path: &str) -> Result<Option<OwnedFd>> {
    match root.open_at(path, libc::O_PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(source) => Err(Error::file("open", path, source)),
    }
}

/// Mounts each path over itself, read-only, except for those in `writable`.
pub(super) fn read_only(root: &RootDir, paths: &[String], writable: &[String]) -> Result<()> {
    let mut kept = Vec::new();
    for path in writable {
        if let Some(place) = existing(root, path)? {
            kept.push((path, copy(path, &place)?));
        }
    }
    for path in paths {
        let Some(place) = existing(root, path)? else {
            continue;
        };
        let tree = copy(path, &place)?;
        change(&tree, attr::RDONLY, 0, true)
            .and_then(|()| attach(&tree, &place))
            .map_err(|e| Error::file("make read-only", path, e))?;
    }
    for (path, tree) in kept {
        root.open_at(path, libc::O_PATH)
            .and_then(|place| attach(&tree, place))
            .map_err(|e| Error::file("make writable", path, e))?;
    }
    Ok(())
}

fn copy(path: &str, place: &OwnedFd) -> Result<OwnedFd> {
    use std::os::fd::AsFd;
    clone_tree(Some(place.as_fd()), Path::new(""), true)
        .map_err(|e| Error::file("copy the mount of", path, e))
}

/// Covers directories with an empty read-only file system and files with `/dev/null`.
pub(super) fn mask(root: &RootDir, paths: &[String]) -> Result<()> {
    for path in paths {
        let Some(place) = existing(root, path)? else {
            continue;
        };
        let cover = || -> io::Result<()> {
            let tree = if is_directory(&place) {
                let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
                new_fs("tmpfs", &["size=0", "mode=755", "ro"], attributes)?
            } else {
                clone_tree(Some(root.fd()), Path::new("dev/null"), false)?
            };
            attach(tree, &place)
        };
        cover().map_err(|e| Error::file("mask", path, e))?;
    }
    Ok(())
}
