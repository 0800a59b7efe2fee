//! What a run is made of: where Virga is, where its peers are, how many rounds.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

/// Where things are and how often they are done.
#[derive(Debug, Clone)]
pub struct Setting {
    /// A folder as `ci/build` makes it, with `bin/` and `share/`.
    pub dist: PathBuf,
    /// Programs, or folders with an unpacked package, by the peer's name.
    pub peers: BTreeMap<String, PathBuf>,
    /// Rounds of each measurement, instead of each group's own number.
    pub rounds: Option<usize>,
    /// Unified image for containers.
    pub image: Option<PathBuf>,
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
