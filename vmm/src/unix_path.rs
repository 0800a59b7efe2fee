//! Unix sockets whose paths may be longer than the 107 bytes that a socket address holds.
//!
//! A long path is reached through its folder: the folder is opened and named by its descriptor
//! (`/proc/self/fd/N/name`), which is short whatever the folder's own path is.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, socket};
use nix::unistd::fchdir;

/// `sizeof(sockaddr_un.sun_path)` less the closing NUL (unix(7)).
const MAX_ADDRESS_LEN: usize = 107;

fn with_short<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= MAX_ADDRESS_LEN {
        return act(path);
    }
    let wrong = || {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} names no socket", path.display()),
        )
    };
    let folder = File::open(path.parent().ok_or_else(wrong)?)?;
    let name = Path::new(path.file_name().ok_or_else(wrong)?);
    act(&Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

/// Listens on `path`. A socket that a dead process has left there is replaced.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    with_short(path, |path| UnixListener::bind(path))
}

/// Connects to `path`.
pub(crate) fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short(path, |path| UnixStream::connect(path))
}

/// Connects to the socket `name` in an open folder, which may be out of reach by any path by now, or above the root.
///
/// There is no call that does so: the calling thread makes the folder its working directory, and from then on has one of
/// its own. A back end that does not take connections at the moment is an error.
pub(crate) fn connect_in(folder: &File, name: &Path) -> io::Result<UnixStream> {
    unshare(CloneFlags::CLONE_FS)?;
    fchdir(folder)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect_socket(socket.as_raw_fd(), &UnixAddr::new(name)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
#[path = "unix_path_tests.rs"]
mod tests;
