//! Programs that a benchmark starts, and that end with it.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::interrupt;

/// A child that is killed when this is dropped, and by the kernel when this process dies.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a program, out of the terminal's process group so that Ctrl-C leaves it to us.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = bound(command).spawn();
        let child = child.with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child })
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard input, if that is a pipe; dropping it closes the pipe.
    pub fn take_input(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end; whether it has ended.
    pub fn wait_for(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(true)
    }

    /// Asks it to end, and kills it if it does not.
    pub fn terminate(&mut self, limit: Duration) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            signal::kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
            if !self.wait_for(limit)? {
                self.child.kill()?;
                self.child.wait()?;
            }
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn bound(command: &mut Command) -> &mut Command {
    command.process_group(0);
    // SAFETY: between fork and exec only async-signal-safe functions may be called; prctl is a plain system call.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    }
}

/// Runs a program to its end. What it says is in the error when it fails.
pub fn run(command: &mut Command) -> Result<()> {
    interrupt::check()?;
    // A file and not a pipe: what the program leaves running may keep it open.
    let mut said = tempfile::tempfile().context("cannot make a temporary file")?;
    command
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?);
    let status = bound(command).spawn().and_then(|mut child| child.wait());
    let name = command.get_program().to_string_lossy().into_owned();
    let status = status.with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        let arguments: Vec<_> = command.get_args().map(|text| text.to_string_lossy()).collect();
        bail!(
            "{name} {} failed ({status}): {}",
            arguments.join(" "),
            read_back(&mut said)
        );
    }
    Ok(())
}

/// The end of what a program has written, on one line.
pub fn read_back(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.rewind();
    let _ = file.take(1 << 20).read_to_string(&mut text);
    last_words(&text)
}

/// The last lines of a text, on one line.
#[must_use]
pub fn last_words(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let skipped = lines.len().saturating_sub(3);
    match lines.is_empty() {
        true => "it said nothing".to_owned(),
        false => lines[skipped..].join(" / "),
    }
}

/// Makes this process the parent of whatever its programs leave behind.
pub fn adopt_orphans() -> Result<()> {
    // SAFETY: a plain system call without pointers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).context("cannot adopt orphans"),
    }
}

/// Reaps orphans that have ended. Must not be called while a [`Process`] runs: it would take its exit status.
pub fn reap_orphans() {
    while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status.pid().is_some()) {}
}

/// Descendants of a process, nearest first.
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        let tasks = std::fs::read_dir(format!("/proc/{parent}/task"));
        for task in tasks.into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(
                children
                    .split_ascii_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    found.remove(0);
    found
}

/// The nearest descendant with this name.
pub fn descendant_named(pid: u32, name: &str) -> Result<u32> {
    descendants(pid)
        .into_iter()
        .find(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        })
        .ok_or_else(|| anyhow!("process {pid} has no descendant called {name}"))
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
