//! Running the programs that know a format better than we do.

use std::io::{Read, Seek};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits::Progress;

/// How often a running program is looked after.
const TICK: Duration = Duration::from_millis(5);

/// A program, and Debian's package that has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// Runs a command to its end; a cancelled one is killed, and what it made is the caller's to remove.
pub(crate) fn run(tool: Tool, command: &mut Command, progress: Option<&mut Progress<'_>>) -> Result<()> {
    command.stdout(Stdio::null());
    run_reading(tool, command, progress, &mut |_, _| Ok(()))
}

/// Runs a command whose output, if it is piped, `read` takes before the end is waited for.
pub(crate) fn run_reading(
    tool: Tool,
    command: &mut Command,
    mut progress: Option<&mut Progress<'_>>,
    read: &mut dyn FnMut(&mut Child, &mut Option<&mut Progress<'_>>) -> Result<()>,
) -> Result<()> {
    let Tool { program, package } = tool;
    let own = |err: std::io::Error| Error::cannot_run(program, package)(err);
    // A file and not a pipe: nobody has to read it while the program runs.
    let mut log = tempfile::tempfile().map_err(own)?;
    let mut child = command
        .stdin(Stdio::null())
        .stderr(log.try_clone().map_err(own)?)
        .env("LC_ALL", "C")
        .spawn()
        .map_err(own)?;
    let mut wait = || {
        read(&mut child, &mut progress)?;
        loop {
            if let Some(status) = child.try_wait().map_err(own)? {
                return Ok(status);
            }
            if let Some(progress) = &mut progress {
                progress.check()?;
            }
            std::thread::sleep(TICK);
        }
    };
    let status = wait().inspect_err(|_: &Error| {
        // It is our own child, and not waited for yet.
        let _ = child.kill();
        let _ = child.wait();
    })?;
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    let _ = log.rewind();
    let _ = log.take(64 << 10).read_to_string(&mut text);
    if text.contains("No space left on device") || text.contains("Disk quota exceeded") {
        return Err(Error::NoSpace {
            action: "run",
            path: program.into(),
        });
    }
    let words = text.lines().rev().find(|line| !line.trim().is_empty());
    Err(Error::Tool {
        tool: program,
        status: status.to_string(),
        stderr: words.unwrap_or("no message").trim().to_owned(),
    })
}
