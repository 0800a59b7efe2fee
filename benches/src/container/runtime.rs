//! OCI runtimes and the containers that they are told to make.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::bundle::Bundle;
use crate::interrupt;
use crate::process::{self, read_back};
use crate::setting::Setting;

/// A container that has said nothing for so long has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// One runtime.
pub(crate) struct Runtime {
    /// Name in the report.
    pub(crate) name: &'static str,
    program: Result<PathBuf, String>,
    /// What comes before the runtime's own arguments.
    prefix: &'static [&'static str],
    /// Where it keeps its state.
    root: PathBuf,
}

impl Runtime {
    /// Virga first.
    pub(crate) fn all(setting: &Setting, scratch: &Path) -> Vec<Self> {
        let new = |name: &'static str, program, prefix| Self {
            name,
            program,
            prefix,
            root: scratch.join(format!("{name}-state")),
        };
        vec![
            new("virga", setting.program("virga-run"), &["oci"]),
            new("crun", setting.peer("crun", "crun"), &[]),
            new("runc", setting.peer("runc", "runc"), &[]),
        ]
    }

    /// Why it cannot be measured.
    pub(crate) fn missing(&self) -> Option<String> {
        self.program.as_ref().err().cloned()
    }

    /// A container that is not made yet, and is gone when this is dropped.
    pub(crate) fn container<'a>(&'a self, bundle: &'a Bundle) -> Container<'a> {
        Container {
            runtime: self,
            bundle,
            id: format!("virga-bench-{}-{}", self.name, std::process::id()),
            output: None.into(),
        }
    }

    fn command(&self) -> Result<Command> {
        let program = self
            .program
            .as_ref()
            .map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let mut command = Command::new(program);
        command.args(self.prefix).arg("--root").arg(&self.root);
        Ok(command)
    }
}

/// One container.
pub(crate) struct Container<'a> {
    runtime: &'a Runtime,
    bundle: &'a Bundle,
    id: String,
    /// Other end of its standard output.
    output: std::cell::RefCell<Option<OwnedFd>>,
}

impl Container<'_> {
    /// `create`: the container's process inherits the standard streams.
    pub(crate) fn create(&self) -> Result<()> {
        let mut command = self.runtime.command()?;
        command
            .arg("create")
            .arg("--bundle")
            .arg(&self.bundle.folder)
            .arg(&self.id);
        let (ours, theirs) = nix::unistd::pipe().context("cannot make a pipe")?;
        let mut said = tempfile::tempfile().context("cannot make a temporary file")?;
        *self.output.borrow_mut() = Some(ours);
        let status = command
            .stdin(Stdio::null())
            .stdout(theirs)
            .stderr(said.try_clone()?)
            .status();
        let status = status.with_context(|| format!("cannot run {}", self.runtime.name))?;
        if !status.success() {
            bail!("create failed ({status}): {}", read_back(&mut said));
        }
        Ok(())
    }

    /// `start`.
    pub(crate) fn start(&self) -> Result<()> {
        process::run(self.runtime.command()?.arg("start").arg(&self.id))
    }

    /// `delete --force`: also of what still runs.
    pub(crate) fn delete(&self) -> Result<()> {
        process::run(self.runtime.command()?.args(["delete", "--force"]).arg(&self.id))
    }

    /// Waits for the first thing that the container's process says.
    pub(crate) fn wait_for_output(&self) -> Result<()> {
        match self.output()?.as_str() {
            "up\n" => Ok(()),
            "" => bail!("the container ended without a word"),
            other => bail!("the container said {other:?}"),
        }
    }

    /// Waits until the container's process has ended: it alone has the other end of its output.
    pub(crate) fn wait_for_end(&self) -> Result<()> {
        match self.output()?.as_str() {
            "" => Ok(()),
            other => bail!("the container said {other:?}"),
        }
    }

    /// What can be read of the container's output first; nothing if that was closed.
    fn output(&self) -> Result<String> {
        let Some(output) = self.output.borrow_mut().take() else {
            bail!("the container was not created")
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            interrupt::check()?;
            let limit = PollTimeout::from(200u8);
            match poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], limit) {
                Ok(0) | Err(nix::Error::EINTR) if Instant::now() < deadline => {}
                Ok(0) => bail!("the container did nothing within {} s", LIMIT.as_secs()),
                Ok(_) => break,
                Err(error) => return Err(error).context("cannot wait for the container"),
            }
        }
        let mut text = [0; 256];
        let len = File::from(output)
            .read(&mut text)
            .context("cannot read the container's output")?;
        Ok(String::from_utf8_lossy(&text[..len]).into_owned())
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // After an error the container may still be there; crun and runc keep a folder with its name.
        if fs::exists(self.runtime.root.join(&self.id)).unwrap_or(true)
            && let Ok(mut command) = self.runtime.command()
        {
            command.args(["delete", "--force"]).arg(&self.id);
            let _ = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}
