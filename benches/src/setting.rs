//! What a run is made of: where Virga is, where its peers are, how many rounds.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Is told what is being done: a label, how many rounds are done, and of how many.
pub type Progress = Arc<dyn Fn(&str, usize, usize) + Send + Sync>;

/// Is told what went wrong on the way.
pub type Remark = Arc<dyn Fn(&str) + Send + Sync>;

/// Where things are and how often they are done.
#[derive(Clone)]
pub struct Setting {
    /// A folder as `ci/build` makes it, with `bin/` and `share/`.
    pub dist: PathBuf,
    /// Programs, or folders with an unpacked package, by the peer's name.
    pub peers: BTreeMap<String, PathBuf>,
    /// Rounds of each measurement, instead of each group's own number.
    pub rounds: Option<usize>,
    /// Unified image for containers.
    pub image: Option<PathBuf>,
    /// Shows progress.
    pub on_progress: Progress,
    /// Shows remarks.
    pub on_remark: Remark,
}

impl Setting {
    /// One of Virga's programs, if it was built.
    pub fn program(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.dist.join("bin").join(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("{} is missing; build it with ci/build", path.display())),
        }
    }

    /// One of the files that guests need, if it was built.
    pub fn shared(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.dist.join("share/virga").join(name);
        match path.is_file() {
            true => Ok(path),
            false => Err(format!("{} is missing; build it with ci/build", path.display())),
        }
    }

    /// Says how far the run is.
    pub fn progress(&self, label: &str, done: usize, total: usize) {
        (self.on_progress)(label, done, total);
    }

    /// Says what went wrong, while the run goes on.
    pub fn remark(&self, text: &str) {
        (self.on_remark)(text);
    }

    /// Where a peer is: as it was given, else in PATH.
    pub fn peer(&self, name: &str, program: &str) -> Result<PathBuf, String> {
        if let Some(path) = self.peers.get(name) {
            return match path.exists() {
                true => Ok(path.clone()),
                false => Err(format!("{} does not exist", path.display())),
            };
        }
        find_program(program).ok_or_else(|| format!("no {program} in PATH; give one with --peer {name}=PATH"))
    }

    /// Rounds to do.
    #[must_use]
    pub fn rounds(&self, usual: usize) -> usize {
        self.rounds.unwrap_or(usual).max(1)
    }
}

/// A program in PATH.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}
