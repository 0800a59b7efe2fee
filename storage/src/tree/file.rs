//! Copying one file: its contents with their holes, and everything an inode says besides.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence};

use crate::error::{Error, Result};

// linux/fs.h: FICLONE, _IOW(0x94, 9, int).
nix::ioctl_write_int_bad!(
    ficlone,
    nix::request_code_write!(0x94, 9, std::mem::size_of::<libc::c_int>())
);

/// Files up to this size are read and written in one go: below it two calls cost less than looking for holes.
const SMALL: usize = 128 << 10;

/// How contents are moved. One per copy, shared by its threads: what one file finds out holds for the next.
#[derive(Debug)]
pub(super) struct Mover {
    reflink: AtomicBool,
    copy_range: AtomicBool,
}

impl Default for Mover {
    fn default() -> Self {
        Self {
            reflink: AtomicBool::new(true),
            copy_range: AtomicBool::new(true),
        }
    }
}

impl Mover {
    /// Copies the contents of a file into a new, empty one.
    pub(super) fn contents(
        &self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        stat: &FileStat,
    ) -> nix::Result<()> {
        if stat.st_size == 0 || self.cloned(from, to)? {
            return Ok(());
        }
        let size = stat.st_size as u64;
        let whole = (stat.st_blocks as u64).saturating_mul(512) >= size;
        if whole && size <= SMALL as u64 {
            return by_buffer(from, to, 0, size);
        }
        self.data_segments(from, to, size)
    }

    /// Shares the extents if the file system can.
    fn cloned(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<bool> {
        if !self.reflink.load(Ordering::Relaxed) {
            return Ok(false);
        }
        // SAFETY: FICLONE takes a descriptor by value and touches no memory of ours; both descriptors are open.
        match unsafe { ficlone(to.as_raw_fd(), from.as_raw_fd()) } {
            Ok(_) => Ok(true),
            Err(Errno::EOPNOTSUPP | Errno::EXDEV | Errno::EINVAL | Errno::ENOTTY | Errno::ENOSYS) => {
                self.reflink.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Copies what is data and leaves what is a hole.
    fn data_segments(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64) -> nix::Result<()> {
        let mut at = 0;
        while at < size {
            let start = match nix::unistd::lseek(from, at as i64, Whence::SeekData) {
                Ok(start) => start as u64,
                // Nothing but a hole up to the end.
                Err(Errno::ENXIO) => break,
                // The file system knows no holes: all is data.
                Err(Errno::EINVAL) => at,
                Err(error) => return Err(error),
            };
            let end = match nix::unistd::lseek(from, start as i64, Whence::SeekHole) {
                Ok(end) => (end as u64).min(size),
                Err(Errno::EINVAL) => size,
                // Cut short by its owner meanwhile.
                Err(Errno::ENXIO) => break,
                Err(error) => return Err(error),
            };
            if start >= size {
                break;
            }
            self.range(from, to, start, end)?;
            at = end;
        }
        nix::unistd::ftruncate(to, size as i64)
    }

    fn range(&self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> nix::Result<()> {
        let mut at = start;
        while self.copy_range.load(Ordering::Relaxed) && at < end {
            let (mut in_at, mut out_at) = (at as i64, at as i64);
            let length = (end - at).min(1 << 30) as usize;
            // SAFETY: both offsets live through the call, and both descriptors are open.
            let copied = unsafe {
                libc::copy_file_range(
                    from.as_raw_fd(),
                    &raw mut in_at,
                    to.as_raw_fd(),
                    &raw mut out_at,
                    length,
                    0,
                )
            };
            match Errno::result(copied) {
                Ok(0) => return Ok(()),
                Ok(copied) => at += copied as u64,
                Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM) => {
                    self.copy_range.store(false, Ordering::Relaxed);
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        if at < end {
            by_buffer(from, to, at, end)
        } else {
            Ok(())
        }
    }
}

/// Copies a range by reading and writing it. A source that got shorter ends the copy early.
fn by_buffer(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> nix::Result<()> {
    let mut buffer = vec![0u8; (end - start).min(SMALL as u64) as usize];
    let mut at = start;
    while at < end {
        let want = ((end - at) as usize).min(buffer.len());
        let got = match nix::sys::uio::pread(from, &mut buffer[..want], at as i64) {
            Ok(0) => return Ok(()),
            Ok(got) => got,
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..got];
        while !rest.is_empty() {
            match nix::sys::uio::pwrite(to, rest, at as i64) {
                Ok(0) => return Err(Errno::EIO),
                Ok(put) => {
                    rest = &rest[put..];
                    at += put as u64;
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Gives an open file or directory the owner, extended attributes, mode and times of another. In this order: a change of owner
/// clears set-uid bits and file capabilities, and everything changes the times.
pub(super) fn copy_inode(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &FileStat) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    if !is_ours(stat) {
        nix::unistd::fchown(to, Some(uid), Some(gid))?;
    }
    copy_attributes(Inode::Open(from), Inode::Open(to))?;
    fchmod(to, Mode::from_bits_truncate(stat.st_mode))?;
    let (atime, mtime) = times(stat);
    nix::sys::stat::futimens(to, &atime, &mtime)
}

/// Whether an inode's owner is the one that new ones get. While a copy is made its directories have no set-gid bit, so that is
/// this process.
pub(super) fn is_ours(stat: &FileStat) -> bool {
    stat.st_uid == Uid::effective().as_raw() && stat.st_gid == Gid::effective().as_raw()
}

/// Access and modification time.
pub(super) fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}

/// An inode whose extended attributes are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inode<'a> {
    /// By a descriptor open for reading or writing.
    Open(BorrowedFd<'a>),
    /// By the path `/proc/self/fd/<directory>/<name>`, not following it: for what cannot be opened without effect.
    Path(&'a CStr),
}

impl Inode<'_> {
    fn list(self, buffer: &mut [u8]) -> nix::Result<usize> {
        let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the kernel writes at most `length` bytes to the buffer; the path is terminated by NUL.
        let got = unsafe {
            match self {
                Self::Open(fd) => libc::flistxattr(fd.as_raw_fd(), pointer, length),
                Self::Path(path) => libc::llistxattr(path.as_ptr(), pointer, length),
            }
        };
        Errno::result(got).map(|got| got as usize)
    }

    fn get(self, name: &CStr, buffer: &mut [u8]) -> nix::Result<usize> {
        let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the kernel writes at most `length` bytes to the buffer; name and path are terminated by NUL.
        let got = unsafe {
            match self {
                Self::Open(fd) => libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), pointer, length),
                Self::Path(path) => libc::lgetxattr(path.as_ptr(), name.as_ptr(), pointer, length),
            }
        };
        Errno::result(got).map(|got| got as usize)
    }

    fn set(self, name: &CStr, value: &[u8]) -> nix::Result<()> {
        let (pointer, length) = (value.as_ptr().cast(), value.len());
        // SAFETY: the kernel reads `length` bytes from the value; name and path are terminated by NUL.
        let set = unsafe {
            match self {
                Self::Open(fd) => libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), pointer, length, 0),
                Self::Path(path) => libc::lsetxattr(path.as_ptr(), name.as_ptr(), pointer, length, 0),
            }
        };
        Errno::result(set).map(drop)
    }
}

/// Copies all extended attributes: user's, file capabilities, ACLs, labels.
pub(super) fn copy_attributes(from: Inode<'_>, to: Inode<'_>) -> nix::Result<()> {
    let mut names = [0u8; 1024];
    let mut long_names;
    let names = match from.list(&mut names) {
        Ok(0) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
        Ok(length) => &names[..length],
        Err(Errno::ERANGE) => {
            // XATTR_LIST_MAX, the most the kernel ever returns.
            long_names = vec![0u8; 65536];
            let length = from.list(&mut long_names)?;
            &long_names[..length]
        }
        Err(error) => return Err(error),
    };
    // XATTR_SIZE_MAX, the longest value there can be.
    let mut value = vec![0u8; 65536];
    for name in names.split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let length = match from.get(name, &mut value) {
            Ok(length) => length,
            // Gone meanwhile, or computed by the file system (btrfs properties, NFS ACLs) and unreadable.
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => continue,
            Err(error) => return Err(error),
        };
        match to.set(name, &value[..length]) {
            // A label of a security module or a private attribute of the source's file system that has no meaning here.
            Err(Errno::EOPNOTSUPP) => {}
            other => other?,
        }
    }
    Ok(())
}

/// The path by which [`Inode::Path`] names an entry of an open directory.
pub(super) fn entry_path(dir: BorrowedFd<'_>, name: &CStr) -> Option<CString> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    CString::new(path).ok()
}

/// Copies a single file, such as a raw disk, to a new name.
pub(crate) fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let source = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(from)
        .map_err(|error| Error::io("opening", from, error))?;
    let stat = fstat(&source).map_err(|error| Error::io("reading", from, error))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::io("copying", from, Errno::EINVAL));
    }
    let target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| Error::io("creating", to, error))?;
    Mover::default()
        .contents(source.as_fd(), target.as_fd(), &stat)
        .and_then(|()| copy_inode(source.as_fd(), target.as_fd(), &stat))
        .map_err(|error| Error::io("copying", to, error))
}

/// Opens a regular file without waiting for anything, should it turn out to be something else by now.
pub(super) fn open_source(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<(File, FileStat)> {
    use nix::fcntl::{OFlag, openat};
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = match openat(dir, name, flags | OFlag::O_NOATIME, Mode::empty()) {
        // Only the owner and root may leave the access time alone.
        Err(Errno::EPERM) => openat(dir, name, flags, Mode::empty())?,
        other => other?,
    };
    let stat = fstat(&file)?;
    Ok((File::from(file), stat))
}
