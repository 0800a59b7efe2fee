//! Which CPUs of the host a thread runs on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use thiserror::Error;

use crate::config::{CpuConfig, Numbers};

/// A thread cannot run where the configuration says.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "cpu.pinning.{field} is {asked}, but this process may use {usable:?} of these CPUs; name CPUs that are online and in its cpuset"
)]
pub struct AffinityError {
    /// Which field.
    pub field: String,
    /// What it says.
    pub asked: String,
    /// The part of it that is possible.
    pub usable: String,
}

/// The calling thread.
const SELF: Pid = Pid::from_raw(0);

fn set_of(cpus: &Numbers) -> nix::Result<CpuSet> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter() {
        set.set(usize::from(cpu))?;
    }
    Ok(set)
}

/// Has the calling thread, and those it starts, run on these CPUs only.
pub fn pin(cpus: &Numbers) -> nix::Result<()> {
    sched_setaffinity(SELF, &set_of(cpus)?)
}

/// Whether threads can be pinned as `config` says: the kernel itself takes what it can get of a set, and says nothing.
pub fn check(config: &CpuConfig) -> Result<(), AffinityError> {
    let Some(pinning) = &config.pinning else {
        return Ok(());
    };
    let vcpus = pinning.vcpus.iter().enumerate();
    let fields = vcpus
        .map(|(index, cpus)| (format!("vcpus[{index}]"), cpus))
        .chain(pinning.devices.iter().map(|cpus| ("devices".to_owned(), cpus)));
    for (field, cpus) in fields {
        let usable = usable(cpus);
        if usable != *cpus {
            return Err(AffinityError {
                field,
                asked: cpus.to_string(),
                usable: usable.to_string(),
            });
        }
    }
    Ok(())
}

/// The part of a set on which this process can run: found out by trying, on a thread of its own.
fn usable(cpus: &Numbers) -> Numbers {
    let cpus = cpus.clone();
    let tried = std::thread::spawn(move || {
        pin(&cpus).ok()?;
        let got = sched_getaffinity(SELF).ok()?;
        Some(
            cpus.iter()
                .filter(|cpu| got.is_set(usize::from(*cpu)).unwrap_or(false))
                .collect(),
        )
    });
    tried.join().ok().flatten().unwrap_or_default()
}

#[cfg(test)]
#[path = "affinity_tests.rs"]
mod tests;
