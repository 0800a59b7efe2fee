//! Measuring a tree, and visiting its files.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

use super::entries::read_entries;
use super::{open_dir, open_top};
use crate::error::{Error, Result};

/// Bytes allocated on disk by a file or a tree; a file with several names counts once.
pub(crate) fn usage(path: &Path) -> Result<u64> {
    let fail = |error| Error::io("measuring", path, error);
    let top = match open_top(path) {
        Ok(top) => top,
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            let stat = nix::sys::stat::lstat(path).map_err(fail)?;
            return Ok(stat.st_blocks as u64 * 512);
        }
        Err(error) => return Err(fail(error)),
    };
    let mut total = fstat(&top).map_err(fail)?.st_blocks as u64;
    let mut seen = HashSet::new();
    let mut stack: Vec<(Arc<OwnedFd>, CString)> = vec![(Arc::new(top), c".".to_owned())];
    while let Some((parent, name)) = stack.pop() {
        let dir = match open_dir(parent.as_fd(), name.as_c_str()) {
            Ok(dir) => Arc::new(dir),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(error) => return Err(fail(error)),
        };
        for entry in read_entries(dir.as_fd()).map_err(fail)? {
            let stat = match fstatat(dir.as_fd(), entry.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(fail(error)),
            };
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                stack.push((Arc::clone(&dir), entry.name));
            } else if stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            total += stat.st_blocks as u64;
        }
    }
    Ok(total * 512)
}

/// Calls `each` with every directory, the top included, and every regular file of a tree, opened for reading.
pub(crate) fn visit(
    path: &Path,
    each: &mut dyn FnMut(BorrowedFd<'_>, bool) -> nix::Result<()>,
) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut stack: Vec<(Arc<OwnedFd>, CString)> = vec![(Arc::new(open_top(path)?), c".".to_owned())];
    while let Some((parent, name)) = stack.pop() {
        let dir = match open_dir(parent.as_fd(), name.as_c_str()) {
            Ok(dir) => Arc::new(dir),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
            Err(error) => return Err(error),
        };
        each(dir.as_fd(), true)?;
        for entry in read_entries(dir.as_fd())? {
            if entry.kind == libc::DT_DIR {
                stack.push((Arc::clone(&dir), entry.name));
            } else if entry.kind == libc::DT_REG {
                match openat(dir.as_fd(), entry.name.as_c_str(), flags, Mode::empty()) {
                    Ok(file) => each(file.as_fd(), false)?,
                    Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
    Ok(())
}
