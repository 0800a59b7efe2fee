//! How host programs reach ports of the guest, in Firecracker's way: they connect to the device's socket, send
//! `CONNECT <port>\n`, and get `OK <number>\n` when the guest has accepted. For the other direction the guest's
//! connection to host port N goes to the socket `<path>_N`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest line: `CONNECT 4294967295\n`, and room for spaces.
const LINE_MAX: usize = 32;
/// The longest that is appended to the socket's path: `_4294967295`.
const PORT_SUFFIX_MAX: usize = 11;
/// Bytes for a path in a socket address, with a zero byte at the end (unix(7)).
const ADDRESS_MAX: usize = 108;
/// How long a host program may take to send its line.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A host program that has not said yet which port it wants.
pub(super) struct Handshake {
    stream: UnixStream,
    pub(super) deadline: Instant,
}

/// What a host program said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It wants this port.
    Port(u32),
    /// Not all of the line is there yet.
    NotYet,
    /// Something else, or it has gone.
    Nonsense,
}

impl Handshake {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            deadline: Instant::now() + TIMEOUT,
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    pub(super) fn into_stream(self) -> UnixStream {
        self.stream
    }

    /// Reads the line, and not a byte more: what follows belongs to the guest.
    pub(super) fn read(&self) -> Said {
        let mut bytes = [0; LINE_MAX];
        let peeked = match receive(&self.stream, &mut bytes, libc::MSG_PEEK) {
            Ok(0) => return Said::Nonsense,
            Ok(count) => bytes.get(..count).unwrap_or_default(),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Said::NotYet;
            }
            Err(_) => return Said::Nonsense,
        };
        let said = parse_line(peeked);
        if let (Said::Port(_), Some(end)) = (said, peeked.iter().position(|byte| *byte == b'\n')) {
            let mut line = [0; LINE_MAX];
            let line = line.get_mut(..=end).unwrap_or_default();
            let len = line.len();
            if !matches!(receive(&self.stream, line, 0), Ok(count) if count == len) {
                return Said::Nonsense;
            }
        }
        said
    }
}

/// Parses what has been read so far.
pub(super) fn parse_line(bytes: &[u8]) -> Said {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Said::NotYet
        } else {
            Said::Nonsense
        };
    };
    let line = bytes.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    let mut words = line.unwrap_or_default().split_ascii_whitespace();
    match (words.next(), words.next().map(str::parse), words.next()) {
        (Some(word), Some(Ok(port)), None) if word.eq_ignore_ascii_case("connect") => Said::Port(port),
        _ => Said::Nonsense,
    }
}

fn receive(stream: &UnixStream, bytes: &mut [u8], flags: libc::c_int) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `bytes.len()` bytes to `bytes`.
    let count = unsafe { libc::recv(stream.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Connects to the sockets of host ports.
#[derive(Debug)]
pub(super) struct Dialer {
    /// What the port's number is appended to.
    prefix: Vec<u8>,
    /// Keeps the directory in `prefix` open, if it is named by its descriptor.
    _directory: Option<File>,
}

impl Dialer {
    /// Prepares to dial the ports beside `socket`. Where a path would be longer than a socket address holds, its directory
    /// is opened now, while the process still may, and named by descriptor.
    pub(super) fn new(socket: &Path) -> io::Result<Self> {
        let path = socket.as_os_str().as_bytes();
        if path.len() + PORT_SUFFIX_MAX < ADDRESS_MAX {
            return Ok(Self {
                prefix: path.to_vec(),
                _directory: None,
            });
        }
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let (parent, name) = (
            socket.parent().ok_or_else(invalid)?,
            socket.file_name().ok_or_else(invalid)?,
        );
        let directory = File::open(parent)?;
        let mut prefix = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        prefix.extend(name.as_bytes());
        Ok(Self {
            prefix,
            _directory: Some(directory),
        })
    }

    /// Connects to a port without ever blocking: a listener whose backlog is full refuses.
    pub(super) fn dial(&self, port: u32) -> io::Result<UnixStream> {
        // SAFETY: all zeroes is a valid value of this plain structure.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        let path = [&self.prefix[..], format!("_{port}").as_bytes()].concat();
        if path.len() >= ADDRESS_MAX || path.contains(&0) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        address
            .sun_path
            .iter_mut()
            .zip(&path)
            .for_each(|(to, from)| *to = *from as libc::c_char);
        // SAFETY: the call has no pointers; on success the descriptor is ours alone.
        let fd = unsafe {
            let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            match libc::socket(libc::AF_UNIX, kind, 0) {
                fd if fd >= 0 => OwnedFd::from_raw_fd(fd),
                _ => return Err(io::Error::last_os_error()),
            }
        };
        let len = std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: the address is valid for `len` bytes.
        match unsafe { libc::connect(fd.as_raw_fd(), (&raw const address).cast(), len) } {
            0 => Ok(UnixStream::from(fd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
