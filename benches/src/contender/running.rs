//! A VMM that has been started, and what its guest has printed so far.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{Contender, Guest};
use crate::interrupt;
use crate::memory::{self, Footprint};
use crate::process::{Process, last_words};
use crate::watch::Watch;

/// Time to look again though nothing was printed: a VMM that has ended prints nothing.
const LOOK: Duration = Duration::from_millis(200);
/// Time for a VMM to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// A VMM with its guest; both end when this is dropped.
pub(crate) struct Running {
    process: Process,
    began: Instant,
    memory_bytes: u64,
    /// The serial port's output.
    output: PathBuf,
    watch: Watch,
    /// Standard error.
    said: PathBuf,
    _folder: TempDir,
}

impl Running {
    /// Starts a VMM with a folder of its own in `scratch`.
    pub(crate) fn start(contender: &Contender, guest: &Guest, scratch: &Path) -> Result<Self> {
        let folder = TempDir::with_prefix_in("vm.", scratch).context("cannot make a scratch folder")?;
        let (output, said) = (folder.path().join("serial"), folder.path().join("said"));
        File::create(&output).with_context(|| format!("cannot make {}", output.display()))?;
        let mut command = contender.command(guest, folder.path(), &output)?;
        command.stderr(File::create(&said).context("cannot make a log file")?);
        let watch = Watch::new(&output)?;
        let began = Instant::now();
        Ok(Self {
            process: Process::start(&mut command)?,
            began,
            memory_bytes: guest.memory_bytes,
            output,
            watch,
            said,
            _folder: folder,
        })
    }

    /// Waits until `seen` finds what it looks for in the serial port's output so far, which it is shown whenever there is
    /// more. It is told the time since the start, too.
    pub(crate) fn wait<T>(
        &mut self,
        limit: Duration,
        mut seen: impl FnMut(&[u8], Duration) -> Result<Option<T>>,
    ) -> Result<T> {
        loop {
            let printed = fs::read(&self.output)?;
            let elapsed = self.began.elapsed();
            if let Some(found) = seen(&printed, elapsed)? {
                return Ok(found);
            }
            let console = || match printed.is_empty() {
                true => "its console is empty".to_owned(),
                false => format!(
                    "its console ends with: {}",
                    last_words(&String::from_utf8_lossy(&printed))
                ),
            };
            if let Some(status) = self.process.ended()? {
                let words = last_words(&fs::read_to_string(&self.said).unwrap_or_default());
                bail!("it ended ({status}): {words}; {}", console());
            }
            interrupt::check()?;
            if elapsed > limit {
                bail!(
                    "its guest was not done within {} s; {}",
                    limit.as_secs(),
                    console()
                );
            }
            self.watch.wait(LOOK)?;
        }
    }

    /// Its memory.
    pub(crate) fn footprint(&self) -> Result<Footprint> {
        memory::of_vmm(self.process.id(), self.memory_bytes)
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Result<()> {
        self.process.terminate(FAREWELL)
    }
}
