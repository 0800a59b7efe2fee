//! [`Listener`]: the socket, and the loop that accepts connections.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use nix::unistd::{Gid, Group};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::identity::{Allowed, identify};

/// How long requests in progress may take at the daemon's end.
const DRAIN: Duration = Duration::from_secs(30);

/// A socket that clients can connect to. Removed from the file system when dropped.
#[derive(Debug)]
pub struct Listener {
    socket: tokio::net::UnixListener,
    path: PathBuf,
    allowed: Allowed,
}

impl Listener {
    /// Binds `path`, for root and the members of `group`. A socket that is left there from before is replaced; the
    /// caller holds the state directory's lock, so nobody listens on it. The socket appears with its permissions set.
    pub fn bind(path: &Path, group: Option<&str>) -> io::Result<Self> {
        let group = group.map(find_group).transpose()?;
        let fresh = path.with_extension("socket.new");
        remove_if_there(&fresh)?;
        let socket = guest_agent::socket::bind(&fresh)?;
        nix::unistd::chown(&fresh, None, group)?;
        let mode = if group.is_some() { 0o660 } else { 0o600 };
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
        std::fs::rename(&fresh, path)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: tokio::net::UnixListener::from_std(socket)?,
            path: path.to_owned(),
            allowed: Allowed { group },
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = remove_if_there(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "socket could not be removed");
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn find_group(name: &str) -> io::Result<Gid> {
    let group = Group::from_name(name)?;
    group.map(|group| group.gid).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "there is no group {name:?}: make it with `groupadd --system {name}` or leave out --group"
            ),
        )
    })
}

/// Serves the API until `stop` is cancelled, then lets requests in progress end.
pub async fn serve(listener: Listener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.socket.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors or memory: what is open goes on, new clients wait.
                    tracing::error!(%error, "connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let requestor = identify(&stream, listener.allowed);
        connections.spawn(connection::serve(stream, requestor, router.clone(), stop.clone()));
    }
    // From here on clients are refused rather than left waiting.
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!("requests still in progress are given up");
    }
}
