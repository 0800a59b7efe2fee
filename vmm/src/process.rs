//! What this process has to know of itself from `/proc`, which it loses sight of when it enters its sandbox.

use std::fs::{self, File};
use std::io;

use crate::control::state::SandboxState;

/// This process, as others see it.
#[derive(Debug)]
pub struct Process {
    /// Its id where it was started; within its own pid namespace it has another.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`: with the process id it names this process for as long as the host is up.
    pub start_time: u64,
    /// Its mappings.
    pub smaps: File,
    /// How it is confined.
    pub sandbox: SandboxState,
}

impl Process {
    /// Looks at this process, which is not confined yet.
    pub fn here() -> io::Result<Self> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let (pid, start_time) =
            parse(&stat).ok_or_else(|| io::Error::other("/proc/self/stat is not as expected"))?;
        Ok(Self {
            pid,
            start_time,
            smaps: File::open("/proc/self/smaps")?,
            sandbox: SandboxState::default(),
        })
    }
}

/// Process id and start time from a line of `stat`.
fn parse(stat: &str) -> Option<(u32, u64)> {
    let (pid, _) = stat.split_once(' ')?;
    // The second field, the name, may contain anything, but it ends with the last parenthesis.
    let (_, after_name) = stat.rsplit_once(')')?;
    let start_time = after_name.split_ascii_whitespace().nth(22 - 3)?;
    Some((pid.parse().ok()?, start_time.parse().ok()?))
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
