//! [`StateLock`]: one daemon per state directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Held while the daemon runs; the kernel lets go of it however the daemon ends.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

impl StateLock {
    /// Takes the lock, or says who has it.
    pub fn take(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0)?;
                writeln!(file, "{}", std::process::id())?;
                Ok(Self { _file: file })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!(
                        "another virgad (process {}) holds {}",
                        holder.trim(),
                        path.display()
                    ),
                ))
            }
            Err((_, errno)) => Err(errno.into()),
        }
    }
}
