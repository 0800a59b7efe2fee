//! Processes that were started by an earlier life of the daemon: recognised by command line, environment and
//! network namespace, held by a pidfd so that a recycled process number is never signalled.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A process that was alive when it was looked up; the handle never comes to mean another one.
#[derive(Debug)]
pub(crate) struct Process {
    handle: OwnedFd,
    pid: u32,
    arguments: Vec<String>,
}

impl Process {
    /// The process of a number, if there is one and it has not ended.
    pub(crate) fn open(pid: u32) -> Option<Self> {
        // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        if fd < 0 {
            return None;
        }
        // SAFETY: the call succeeded, so this is a fresh descriptor that nobody else owns.
        let handle = unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) };
        // Read after the handle is held: if the process is still alive afterwards, this was its command line.
        let arguments = strings(&format!("/proc/{pid}/cmdline"));
        let process = Self {
            handle,
            pid,
            arguments,
        };
        (!process.arguments.is_empty() && !process.is_gone(Duration::ZERO)).then_some(process)
    }

    /// All processes that have this word among their arguments.
    pub(crate) fn with_argument(matches: impl Fn(&str) -> bool) -> Vec<Self> {
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            strings(&format!("/proc/{pid}/cmdline"))
                .iter()
                .any(|word| matches(word))
        })
        .filter_map(Self::open)
        .filter(|process| process.arguments.iter().any(|word| matches(word)))
        .collect()
    }

    /// Its command line.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// The value of a variable of the environment it was started with.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        strings(&format!("/proc/{}/environ", self.pid))
            .into_iter()
            .find_map(|variable| variable.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }

    /// Whether it lives in the network namespace of this thread.
    pub(crate) fn shares_network(&self) -> bool {
        let namespace = |path: &str| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
        let ours = namespace("/proc/thread-self/ns/net");
        ours.is_some() && ours == namespace(&format!("/proc/{}/ns/net", self.pid))
    }

    /// Sends a signal; a process that has ended is no error.
    pub(crate) fn signal(&self, signal: libc::c_int) -> io::Result<()> {
        // SAFETY: pidfd_send_signal(2) with a null siginfo reads no memory of ours.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.handle.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
        }
    }

    /// Ends the process, kindly first. Blocks for a few seconds at worst.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.signal(libc::SIGTERM)?;
        if self.is_gone(Duration::from_secs(2)) {
            return Ok(());
        }
        self.signal(libc::SIGKILL)?;
        match self.is_gone(Duration::from_secs(5)) {
            true => Ok(()),
            false => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("process {} does not end", self.pid),
            )),
        }
    }

    /// Waits for the end of the process; a pidfd becomes readable then (pidfd_open(2)), zombie or not.
    fn is_gone(&self, patience: Duration) -> bool {
        let handle: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&self.handle);
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        let mut handles = [PollFd::new(handle, PollFlags::POLLIN)];
        loop {
            match poll(&mut handles, timeout) {
                Ok(count) => return count > 0,
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// The zero-terminated strings in one of the files under `/proc/PID`.
fn strings(path: &str) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.split_terminator('\0').map(str::to_owned).collect()
}
