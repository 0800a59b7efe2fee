//! Control groups that Incus leaves on the host: they are not in a namespace, and some of them stay even after an orderly end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Removes LXC's empty control groups that were not there when it was made.
pub(crate) struct Leftovers {
    before: BTreeSet<PathBuf>,
}

impl Leftovers {
    /// Notes what is there.
    pub(crate) fn note() -> Self {
        Self { before: groups() }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        for group in groups().difference(&self.before) {
            remove(group);
        }
    }
}

/// LXC's groups, which it makes at the top of each hierarchy or in the group of this process.
fn groups() -> BTreeSet<PathBuf> {
    let root = Path::new(ROOT);
    // Version 2 alone is mounted at the root itself.
    let hierarchies: Vec<_> = folders(root).into_iter().chain([root.to_owned()]).collect();
    let own: Vec<String> = fs::read_to_string("/proc/self/cgroup")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| Some(line.splitn(3, ':').nth(2)?.trim_start_matches('/').to_owned()))
        .chain([String::new()])
        .collect();
    hierarchies
        .iter()
        .flat_map(|hierarchy| own.iter().map(|group| hierarchy.join(group)))
        .flat_map(|parent| folders(&parent))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("lxc."))
        })
        .collect()
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Only empty groups go; what is in use by somebody else stays.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
