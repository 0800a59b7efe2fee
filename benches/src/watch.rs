//! Waiting for a file to be written to, by inotify(7).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;

/// Watches one file.
pub(crate) struct Watch {
    events: OwnedFd,
}

impl Watch {
    /// From now on, writes to `file` are noticed.
    pub(crate) fn new(file: &Path) -> Result<Self> {
        let name = CString::new(file.as_os_str().as_bytes())?;
        // SAFETY: a plain system call without pointers.
        let events = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
        if events < 0 {
            return Err(io::Error::last_os_error()).context("cannot use inotify");
        }
        // SAFETY: the descriptor is new and belongs to nobody else.
        let events = unsafe { OwnedFd::from_raw_fd(events) };
        // SAFETY: `name` is a C string that outlives the call.
        match unsafe { libc::inotify_add_watch(events.as_raw_fd(), name.as_ptr(), libc::IN_MODIFY) } {
            -1 => Err(io::Error::last_os_error()).with_context(|| format!("cannot watch {}", file.display())),
            _ => Ok(Self { events }),
        }
    }

    /// Waits for a write, or for the time to pass.
    pub(crate) fn wait(&self, limit: Duration) -> Result<()> {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(0) | Err(nix::Error::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot wait for a file"),
        }
        // What happened to the one file is read from it; the events only have to be taken out of the queue.
        let mut events = [0; 4096];
        match read(&self.events, &mut events) {
            Ok(_) | Err(nix::Error::EAGAIN) => Ok(()),
            Err(error) => Err(error).context("cannot read what happened to a file"),
        }
    }
}
