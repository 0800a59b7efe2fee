//! Unix sockets at paths of any length.
//!
//! `sun_path` holds 108 bytes (unix(7)); run directories may be longer. The directory is opened and the socket reached
//! as `/proc/self/fd/N/name`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

const MAX_PATH: usize = 107;

/// A path short enough, and the directory that must stay open while it is used.
fn shorten(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    if path.as_os_str().len() <= MAX_PATH {
        return Ok((path.to_path_buf(), None));
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} names no socket", path.display()),
        ));
    };
    let directory = File::open(parent)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok((short, Some(directory)))
}

/// Listens at `path`, replacing a socket that a dead process left there.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (short, _directory) = shorten(path)?;
    UnixListener::bind(short)
}

/// Connects to the socket at `path`.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let (short, _directory) = shorten(path)?;
    UnixStream::connect(short)
}
