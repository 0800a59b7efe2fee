//! Removing a tree of any depth with a bounded number of open directories.
//!
//! A guest can nest directories deeper than any stack or descriptor table. Below a certain depth, a directory is moved up to the
//! tree's top under a fresh name and taken from there later.

use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entries::read_entries;
use super::{open_dir, open_top};
use crate::error::{Error, Result};

/// Directories deeper than this are moved up.
const DEPTH_MAX: usize = 32;

/// More subvolumes inside each other than this are refused: each takes a part of the stack.
const LEVELS_MAX: usize = 64;

// linux/fs.h: FS_IOC_SETFLAGS, _IOW('f', 2, long), whose argument is an int all the same.
nix::ioctl_write_ptr_bad!(
    set_flags,
    nix::request_code_write!(b'f', 2, std::mem::size_of::<libc::c_long>()),
    libc::c_int
);

/// Removes a file or a directory with all that is in it. Nothing there is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    remove_with(path, &|_| {})
}

/// Removes a tree; `unlock` is given each directory that turns out to be read-only (btrfs: a read-only subvolume).
pub(crate) fn remove_with(path: &Path, unlock: &dyn Fn(BorrowedFd<'_>)) -> Result<()> {
    remove_any(path, unlock).map_err(|error| Error::io("removing", path, error))
}

fn remove_any(path: &Path, unlock: &dyn Fn(BorrowedFd<'_>)) -> nix::Result<()> {
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error),
    }
    let top = match open_top(path) {
        Ok(top) => top,
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            let parent = open_top(path.parent().unwrap_or(Path::new("/")))?;
            let name = path
                .file_name()
                .and_then(|name| CString::new(name.as_encoded_bytes()).ok());
            return name.map_or(Ok(()), |name| unlink(parent.as_fd(), &name));
        }
        Err(error) => return Err(error),
    };
    let prefix = format!(".virga-{:x}", RandomState::new().build_hasher().finish());
    let device = fstat(&top)?.st_dev;
    Removal {
        top: top.as_fd(),
        device,
        level: 0,
        prefix,
        moved: 0,
        unlock,
    }
    .drain()?;
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EPERM) => {
            clear_flags(top.as_fd());
            unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir)
        }
        Err(error) => Err(error),
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    /// The device of the top. Another one begins at a nested subvolume.
    device: u64,
    /// Subvolumes around this one.
    level: usize,
    /// What names of moved directories start with: random, lest the tree's owner has taken them.
    prefix: String,
    /// Directories moved to the top so far.
    moved: u64,
    unlock: &'a dyn Fn(BorrowedFd<'_>),
}

impl Removal<'_> {
    /// Empties the top.
    fn drain(&mut self) -> nix::Result<()> {
        loop {
            let moved = self.moved;
            self.empty(self.top, 0)?;
            if self.moved == moved {
                return Ok(());
            }
        }
    }

    /// Empties a directory, making it writable if need be.
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) -> nix::Result<()> {
        match self.empty_once(dir, depth) {
            Err(Errno::EROFS) => {
                (self.unlock)(dir);
                self.empty_once(dir, depth)
            }
            other => other,
        }
    }

    fn empty_once(&mut self, dir: BorrowedFd<'_>, depth: usize) -> nix::Result<()> {
        // Opened anew, so that listing starts at the beginning.
        for entry in read_entries(open_dir(dir, c".")?)? {
            let name = entry.name.as_c_str();
            if entry.kind != libc::DT_DIR {
                match unlink(dir, name) {
                    Err(Errno::EISDIR) => {}
                    other => {
                        other?;
                        continue;
                    }
                }
            }
            self.directory(dir, name, depth + 1)?;
        }
        Ok(())
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &CStr, depth: usize) -> nix::Result<()> {
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
            Err(Errno::EPERM) => clear_flags(parent),
            Err(error) => return Err(error),
        }
        if depth >= DEPTH_MAX && self.move_up(parent, name) {
            return Ok(());
        }
        let dir = match open_dir(parent, name) {
            Err(Errno::ENOENT) => return Ok(()),
            other => other?,
        };
        let device = fstat(&dir)?.st_dev;
        if device == self.device {
            self.empty(dir.as_fd(), depth)?;
        } else if self.level < LEVELS_MAX {
            // Nothing can be moved across the border, so it has a top of its own.
            let (level, prefix) = (self.level + 1, self.prefix.clone());
            Removal {
                top: dir.as_fd(),
                device,
                level,
                prefix,
                moved: 0,
                unlock: self.unlock,
            }
            .drain()?;
        } else {
            return Err(Errno::ELOOP);
        }
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Err(Errno::EPERM) => {
                clear_flags(dir.as_fd());
                unlinkat(parent, name, UnlinkatFlags::RemoveDir)
            }
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Moves a deep directory to the top. Where that cannot be it is emptied in place.
    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> bool {
        let fresh = format!("{}-{}", self.prefix, self.moved);
        let moved = renameat(parent, name, self.top, fresh.as_str()).is_ok();
        self.moved += u64::from(moved);
        moved
    }
}

/// Removes what is no directory, even if it or its directory is marked immutable.
fn unlink(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EPERM) => {
            clear_flags(dir);
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            if let Ok(file) = openat(dir, name, flags, Mode::empty()) {
                clear_flags(file.as_fd());
            }
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)
        }
        Err(error) => Err(error),
    }
}

/// Takes `chattr +i` and `+a` away. The removal that follows tells whether it helped.
fn clear_flags(file: BorrowedFd<'_>) {
    let none = 0;
    // SAFETY: the kernel reads one int from `none`, which lives through the call.
    let _ = unsafe { set_flags(file.as_raw_fd(), &raw const none) };
}
