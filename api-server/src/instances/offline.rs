//! Files of a container that does not run: an agent of our own, shut into its root file system.
//!
//! The content of a container is not trusted. The agent therefore gets a mount namespace in which the root file system has no
//! devices and no set-user-id programs, and that is its root: whatever links are in there, they end in there.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::supervisor;
use crate::ApiError;

/// Starts an agent in a root file system and returns the stream to it. It ends when the stream does.
pub(super) fn serve(root: &Path) -> Result<UnixStream, ApiError> {
    let program = supervisor::program("virga-agent")?;
    let path = CString::new(root.as_os_str().as_bytes())
        .map_err(|_| ApiError::internal(format!("{} is no path", root.display())))?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(&program);
    // The agent changes its root itself, once it runs: neither it nor its libraries are in there.
    command
        .args(["--stdio", "--root"])
        .arg(root)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // SAFETY: between fork and exec the closure makes only system calls, with memory that was prepared before the fork.
    unsafe {
        command.pre_exec(move || confine(&path));
    }
    let mut child = command.spawn().map_err(|error| {
        ApiError::internal(format!(
            "Failed to open the root file system {}: {error}",
            root.display()
        ))
    })?;
    std::thread::Builder::new()
        .name("offline-agent".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            // How it ended says nothing that the stream has not said.
            drop(child.wait());
        })?;
    Ok(ours)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives this process a mount namespace in which the directory is a mount of its own, without devices and set-user-id.
fn confine(path: &CString) -> io::Result<()> {
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: all strings end with zero and live across the calls; null is allowed where it is passed (mount(2)).
    unsafe {
        check(libc::unshare(
            libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC,
        ))?;
        check(libc::mount(
            none,
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        ))?;
        check(libc::mount(
            path.as_ptr(),
            path.as_ptr(),
            none,
            libc::MS_BIND,
            std::ptr::null(),
        ))?;
        let flags = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_NODEV | libc::MS_NOSUID;
        check(libc::mount(none, path.as_ptr(), none, flags, std::ptr::null()))
    }
}
