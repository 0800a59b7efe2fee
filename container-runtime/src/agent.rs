//! Joining a running container: what exec, file transfer and state need.
//!
//! [`attach`] starts `virga-run agent`, which enters the container's cgroup and namespaces and there serves one connection of
//! the guest agent's protocol, the same that a microVM's agent serves over vsock.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// Starts an agent in the container of `run_dir` and returns the stream to it. The agent ends when the connection does; its
/// process is collected by a thread, so nothing is left behind.
pub fn attach(virga_run: &Path, run_dir: &Path) -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new(virga_run)
        .arg("agent")
        .arg("--run-dir")
        .arg(run_dir)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::Builder::new().name("agent-reaper".to_owned()).stack_size(64 * 1024).spawn(move || {
        // The exit status says nothing that the stream has not said.
        drop(child.wait());
    })?;
    Ok(ours)
}
