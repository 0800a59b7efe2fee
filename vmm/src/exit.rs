//! How a VM ended: `exit.json`, the process' exit status, and who may decide it.
//!
//! The first cause wins: a guest that powers off while the user asks to stop ends for whichever came first.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

/// Name of the report in the run directory.
pub const EXIT_FILE: &str = "exit.json";

/// Why a VM ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitReason {
    /// The guest powered off (ACPI S5).
    Poweroff,
    /// The guest asked for a reset (ACPI reset register or keyboard controller).
    Reset,
    /// The guest gave up: triple fault.
    Panic,
    /// The user or a signal stopped the VM.
    Killed,
    /// The VMM or KVM could not go on.
    Error,
    /// The init process of a container ended (not used by VMs).
    Exited,
}

impl ExitReason {
    /// The process' exit status, so that scripts can tell the reasons apart without reading `exit.json`.
    #[must_use]
    pub fn process_status(self) -> i32 {
        match self {
            Self::Poweroff | Self::Exited => 0,
            Self::Error => 1,
            Self::Reset => 3,
            Self::Panic => 4,
            Self::Killed => 5,
        }
    }
}

/// Contents of `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// Why it ended.
    pub reason: ExitReason,
    /// Exit status of the init process, for containers.
    pub status: Option<i32>,
    /// One sentence for people, with details where there are any.
    pub message: String,
}

impl ExitReport {
    /// A report without a status.
    #[must_use]
    pub fn new(reason: ExitReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            status: None,
            message: message.into(),
        }
    }

    /// Reads the report of the VM with this run directory; `None` when it has not ended or crashed.
    pub fn read(run_dir: &Path) -> io::Result<Option<Self>> {
        match std::fs::read(run_dir.join(EXIT_FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Whether a file has to be on disk before the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It has to.
    Yes,
    /// The page cache is enough.
    No,
}

/// Writes `value` as JSON to `name` in an open directory: complete or not at all, and on disk when it returns.
///
/// `Sync::No` leaves out the disk, for files that mean nothing after a crash of the host.
///
/// All names are relative to the descriptor, so it works for a process that has changed its user since.
pub fn write_json_at(directory: &File, name: &str, sync: Sync, value: &impl Serialize) -> io::Result<()> {
    let temporary = format!(".{name}.{}", std::process::id());
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mode = Mode::from_bits_truncate(0o644);
    let mut file = File::from(fcntl::openat(directory, temporary.as_str(), flags, mode)?);
    let written = file
        .write_all(&text)
        .and_then(|()| {
            if sync == Sync::Yes {
                file.sync_all()
            } else {
                Ok(())
            }
        })
        .and_then(|()| {
            fcntl::renameat(directory, temporary.as_str(), directory, name)?;
            Ok(())
        });
    written.inspect_err(|_| {
        let _ = unlinkat(directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    })
}

#[cfg(test)]
#[path = "exit_tests.rs"]
mod tests;
