//! Where an agent waits for connections: a vsock port, a unix socket, a character device.
//!
//! Every connection gets a thread of its own with a current-thread runtime, because file operations block, and
//! because a connection that goes wrong then concerns nobody else.

use std::convert::Infallible;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, accept4, bind, listen, socket,
};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::server;
use crate::server::async_file::AsyncFile;

/// Connections served at the same time; more are closed at once. The host is the only client, and a daemon
/// that leaks connections must not use up the instance's memory.
const MOST_CONNECTIONS: usize = 256;

/// How long to wait before a device without a peer is looked at again.
const DEVICE_PAUSE: Duration = Duration::from_millis(100);

/// Serves a port of the vsock device, for ever.
pub fn vsock(port: u32) -> io::Result<Infallible> {
    let listener = socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(
        listener.as_raw_fd(),
        &VsockAddr::new(nix::libc::VMADDR_CID_ANY, port),
    )?;
    accept_all(&listener)
}

/// Serves a unix socket, for ever. The socket is made anew.
pub fn unix(path: &Path) -> io::Result<Infallible> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    accept_all(&crate::socket::bind(path)?.into())
}

/// Serves one request after the other on a character device, for ever: a port of a virtio console or a serial
/// line, for machine monitors without vsock. A client cannot vanish from a serial line, so commands there run to
/// their end.
pub fn device(path: &Path) -> io::Result<Infallible> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK)
        .open(path)?;
    if let Ok(mut settings) = tcgetattr(&file) {
        cfmakeraw(&mut settings);
        tcsetattr(&file, SetArg::TCSANOW, &settings)?;
    }
    let device = OwnedFd::from(file);
    loop {
        // The device stays open between requests: a virtio port throws away what arrives while it is closed.
        let stream = device.try_clone()?;
        let result = runtime()?.block_on(async { server::serve(AsyncFile::new(stream)?).await });
        if let Err(error) = result {
            complain(format_args!("{}: {error}", path.display()));
        }
        std::thread::sleep(DEVICE_PAUSE);
    }
}

fn accept_all(listener: &OwnedFd) -> io::Result<Infallible> {
    listen(listener, Backlog::new(64)?)?; // the same again for one that listens already
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let fd = match accept4(
            listener.as_raw_fd(),
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        ) {
            // SAFETY: accept4 returned a new descriptor that nobody else owns.
            Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
            Err(nix::errno::Errno::EMFILE | nix::errno::Errno::ENFILE | nix::errno::Errno::ENOMEM) => {
                std::thread::sleep(DEVICE_PAUSE); // until some connection ends
                continue;
            }
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::ECONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        if connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let guard = Guard(Arc::clone(&connections));
        let thread = std::thread::Builder::new().name("connection".into());
        let spawned = thread.spawn(move || {
            let _guard = guard;
            if let Err(error) = serve(fd) {
                complain(format_args!("connection: {error}"));
            }
        });
        if let Err(error) = spawned {
            complain(format_args!("no thread for a connection: {error}"));
        }
    }
}

/// Counts a connection down, also when its thread panics.
struct Guard(Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(fd: OwnedFd) -> Result<(), crate::protocol::ProtocolError> {
    runtime()?.block_on(async {
        // Only read, write, shutdown and poll are used on it, and they are the same for all stream sockets:
        // a vsock connection is as good here as one in the unix domain.
        let stream = tokio::net::UnixStream::from_std(UnixStream::from(fd))?;
        server::serve(stream).await
    })
}

/// Serves one connection on standard input, which must be a socket.
pub fn standard_input() -> io::Result<()> {
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    UnixStream::from(fd.try_clone()?).set_nonblocking(true)?;
    serve(fd).map_err(io::Error::other)
}

/// Unlike `eprintln!`, this does not end the thread when nobody listens.
fn complain(message: impl Display) {
    let _ = writeln!(io::stderr(), "virga-agent: {message}");
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
