//! Paths inside an image, resolved as if the image's directory were `/`.
//!
//! An image is hostile: `/dev`, `/proc` or `/sbin/init` may be symbolic links to anywhere. Every path of it is opened through
//! here with openat2(2) and `RESOLVE_IN_ROOT`, so that an absolute link or a `..` ends inside the image, and magic links are
//! refused.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use crate::sys::mount::open_below;
use crate::sys::{c_string, done};
use crate::{Error, Result};

const IN_ROOT: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
/// Init programs are smaller; reading stops here so that a sparse file of terabytes costs nothing.
const MAX_SCAN: u64 = 4 << 20;

/// A directory that is the root for every path given to it.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

/// What a mount is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// Mounts of directories and file systems.
    Directory,
    /// Bind mounts of files and devices.
    File,
}

impl RootDir {
    /// Opens the directory on the host.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = std::os::unix::fs::OpenOptionsExt::custom_flags(
            File::options().read(true),
            libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
        )
        .open(path)?;
        Ok(Self { fd: file.into() })
    }

    /// Takes a directory that is open already.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The directory itself.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a path inside.
    pub(crate) fn open_at(&self, path: impl AsRef<Path>, flags: i32) -> io::Result<OwnedFd> {
        open_below(&self.fd, inner(path.as_ref()), flags, 0, IN_ROOT)
    }

    /// Where a path leads to when all symbolic links are resolved inside, as an absolute path inside; `None` if nowhere.
    pub fn real_path(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let found = self.open_at(path, libc::O_PATH).ok()?;
        let full = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        let base = std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).ok()?;
        Some(Path::new("/").join(full.strip_prefix(base).ok()?))
    }

    /// Whether the regular file at `path` holds these bytes (within its first megabytes).
    pub fn contains(&self, path: impl AsRef<Path>, needle: &[u8]) -> bool {
        // O_NONBLOCK: an image's FIFO must not hold us up.
        let Ok(fd) = self.open_at(path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY) else {
            return false;
        };
        let file = File::from(fd);
        if !file.metadata().is_ok_and(|data| data.is_file()) {
            return false;
        }
        let mut bytes = Vec::new();
        if file.take(MAX_SCAN).read_to_end(&mut bytes).is_err() {
            return false;
        }
        !needle.is_empty() && bytes.windows(needle.len()).any(|window| window == needle)
    }

    /// Opens a place to mount on that the container's own system depends on (`/proc`, `/sys`, `/dev`): made when missing, and
    /// refused when any part of it is a symbolic link, because programs would see another place than was mounted.
    pub(crate) fn fixed_target(&self, path: &str) -> Result<OwnedFd> {
        let shown = || path.to_owned();
        let relative = inner(Path::new(path));
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let resolve = IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
        match open_below(&self.fd, relative, flags, 0, resolve) {
            Ok(fd) => return Ok(fd),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(fixed_error(shown(), &error)),
        }
        if let Some(parent) = relative.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            drop(self.fixed_target(&parent.to_string_lossy())?);
        }
        make_dir(self.fd.as_fd(), relative, 0o755)
            .and_then(|()| open_below(&self.fd, relative, flags, 0, resolve))
            .map_err(|error| fixed_error(shown(), &error))
    }

    /// Opens a place to mount on, making it and the directories above it where they are missing.
    pub(crate) fn target(&self, path: &str, kind: TargetKind) -> io::Result<OwnedFd> {
        let relative = inner(Path::new(path));
        let (parent, name) = match (relative.parent(), relative.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        match self.open_at(relative, libc::O_PATH) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            found => return found,
        }
        let directory = self.make_path(parent)?;
        match kind {
            TargetKind::Directory => make_dir(directory.as_fd(), Path::new(name), 0o755)?,
            TargetKind::File => {
                let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
                drop(open_below(
                    &directory,
                    Path::new(name),
                    flags,
                    0o644,
                    libc::RESOLVE_BENEATH,
                )?);
            }
        }
        self.open_at(relative, libc::O_PATH)
    }

    /// Opens a directory, making what is missing of its path.
    fn make_path(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        match self.open_at(path, flags) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            found => return found,
        }
        let mut done = PathBuf::from(".");
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let parent = self.open_at(&done, flags)?;
            done.push(name);
            match self.open_at(&done, flags) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    make_dir(parent.as_fd(), Path::new(name), 0o755)?;
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        self.open_at(&done, flags)
    }
}

/// The path without its leading slash; `.` for the root.
fn inner(path: &Path) -> &Path {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// mkdirat(2) of one name; existing is fine.
pub(crate) fn make_dir(parent: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    let name = c_string(name.as_os_str().as_encoded_bytes())?;
    // SAFETY: an open descriptor and a valid C string.
    match done(unsafe { libc::mkdirat(parent.as_raw_fd(), name.as_ptr(), mode) }.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        answer => answer,
    }
}

fn fixed_error(path: String, error: &io::Error) -> Error {
    let problem = match error.raw_os_error() {
        Some(libc::ELOOP) => "is a symbolic link: it must be a directory".to_owned(),
        Some(libc::ENOTDIR) => "is not a directory".to_owned(),
        _ => format!("cannot be mounted on: {error}"),
    };
    Error::Image { path, problem }
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
