//! Joining a running container: what exec, file transfer and state need.
//!
//! [`attach`] starts `virga-run agent`, which enters the container's cgroup and namespaces and there serves one connection of
//! the guest agent's protocol, the same that a microVM's agent serves over vsock.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::join::{self, Joined};
use crate::{Error, Result};

/// Starts an agent in the container of `run_dir` and returns the stream to it. The agent ends when the connection does; its
/// process is collected by a thread, so nothing is left behind.
pub fn attach(virga_run: &Path, run_dir: &Path) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(virga_run)
        .arg("agent")
        .arg("--run-dir")
        .arg(run_dir)
        // The container can read the agent's environment, and what it executes inherits it.
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::Builder::new()
        .name("agent-reaper".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            // The exit status says nothing that the stream has not said.
            drop(child.wait());
        })?;
    Ok(ours)
}

/// How long whoever asked for the agent may take to say for what.
const PATIENCE: Duration = Duration::from_secs(10);

/// The agent's side: joins the container of `run_dir` and serves the one connection on standard input. Called by `virga-run agent`,
/// which is single-threaded up to here.
pub fn serve(run_dir: &Path) -> Result<()> {
    let joined = join::join(run_dir);
    let failed = |e: io::Error| Error::system("serve the connection", e);
    let connection = match joined {
        // The child has reported its own failure.
        Ok(Joined::Waited(status)) => std::process::exit(status),
        Ok(Joined::Inside) => join::replace_stdin(),
        Err(_) => io::stdin().as_fd().try_clone_to_owned(),
    };
    let stream = UnixStream::from(connection.map_err(failed)?);
    stream.set_nonblocking(true).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
        let Err(error) = joined else {
            let served = guest_agent::server::serve(stream).await;
            return served.map_err(|e| Error::Protocol(e.to_string()));
        };
        // If even that fails, the error is still this process' own.
        let refused = guest_agent::server::refuse_whatever(stream, error.chain());
        drop(tokio::time::timeout(PATIENCE, refused).await);
        Err(error)
    })
}
