//! The console's log file: bounded by keeping one older part beside it.
//!
//! Both files are opened before privileges are dropped and never again, so rotation copies instead of renaming.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The log is rotated before it exceeds this.
pub const MAX_LOG_BYTES: u64 = 1 << 20;

/// An open log.
pub struct ConsoleLog {
    file: File,
    old: File,
    len: u64,
}

impl ConsoleLog {
    /// Opens `path` and `path.old`; what is in them stays.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .create(true)
            .mode(0o640)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let file = options.append(true).open(path)?;
        let mut old = path.as_os_str().to_owned();
        old.push(".old");
        let old = options.append(true).open(PathBuf::from(old))?;
        let len = file.metadata()?.len();
        Ok(Self { file, old, len })
    }

    /// Appends what the guest printed. A full disk loses output, never the VM.
    pub fn append(&mut self, bytes: &[u8]) {
        // More than the whole log at once is cut to its end.
        let bytes = &bytes[bytes.len().saturating_sub(MAX_LOG_BYTES as usize)..];
        if self.len + bytes.len() as u64 > MAX_LOG_BYTES && self.rotate().is_err() {
            return;
        }
        if self.file.write_all(bytes).is_ok() {
            self.len += bytes.len() as u64;
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.old.set_len(0)?;
        let mut buffer = vec![0; 64 << 10];
        let mut at = 0;
        loop {
            match self.file.read_at(&mut buffer, at)? {
                0 => break,
                len => {
                    self.old.write_all(&buffer[..len])?;
                    at += len as u64;
                }
            }
        }
        self.file.set_len(0)?;
        self.len = 0;
        Ok(())
    }
}

#[cfg(test)]
#[path = "console_log_tests.rs"]
mod tests;
