//! What the process gives up before the guest's first instruction: the host's files, processes, network and users, its
//! capabilities, the way to get any back, and all system calls but those that each kind of thread needs.
//!
//! [`Sandbox::prepare`] comes first in a start, [`Sandbox::enter`] once everything that the VM needs is open, as
//! descriptors. The order there matters:
//!
//! 1. resource limits ([`limits`]);
//! 2. namespaces with an empty tree as root ([`namespaces`]), while the process still may change its user;
//! 3. user, group, no further groups; then the user namespace;
//! 4. capabilities ([`privileges`]), `no_new_privs`, Landlock ([`mod@landlock`]), no core dumps and no attaching;
//! 5. threads are started, each of which installs its filter ([`seccomp`]).
//!
//! What is left in reach: the run directory, by a descriptor that leads nowhere else, for `exit.json` and removing sockets;
//! and, as the working directory, the folder of `vsock.socket`, where the guest's connections are made. A vhost-user back end
//! has neither.
//!
//! What it costs at the start, in microseconds, measured on a busy machine of 2 cores: network namespace 560 to 670, ipc 57
//! to 73, mount 47 to 81, letting go of the old root 165 to 190 (the kernel waits for other processors), all on a thread
//! beside the building of the VM; user namespace 20 to 40, on the main thread. Joining a control group can take
//! milliseconds, so start the process in it where that matters.

pub mod filters;
mod landlock;
pub mod limits;
mod namespaces;
pub mod privileges;
pub mod seccomp;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use ::landlock::RulesetStatus;
use thiserror::Error;

use crate::config::SandboxConfig;
use crate::control::state::SandboxState;
use namespaces::{Entered, Spaces};

/// Why the process could not be confined.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// A control group.
    #[error("cannot join the control group {path}: {source}")]
    Cgroup {
        /// Its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A step failed.
    #[error("cannot {step}: {source}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Something that the configuration requires is not to be had.
    #[error("sandbox.strict is set, but there is no {0}")]
    Missing(String),
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> SandboxError {
    move |source| SandboxError::Step { step, source }
}

/// A sandbox that is being made.
pub struct Sandbox {
    config: SandboxConfig,
    spaces: Option<Spaces>,
}

impl Sandbox {
    /// Joins control groups and starts to make namespaces. To be called before guest memory is made.
    pub fn prepare(config: &SandboxConfig) -> Result<Self, SandboxError> {
        for path in &config.cgroups {
            limits::join_cgroup(path).map_err(|source| SandboxError::Cgroup {
                path: path.clone(),
                source,
            })?;
        }
        let make = || Spaces::make().map_err(step("start to make namespaces"));
        Ok(Self {
            config: config.clone(),
            spaces: config.namespaces.then(make).transpose()?,
        })
    }

    /// Enters it, for good. `run_dir` and `working` stay in reach: the run directory, and the working directory from now on.
    /// The process must have no other threads. Returns what is in force; what is missing is logged, too.
    pub fn enter(
        self,
        run_dir: Option<(&File, PathBuf)>,
        working: Option<(&File, PathBuf)>,
    ) -> Result<SandboxState, SandboxError> {
        let config = &self.config;
        let mut state = SandboxState::default();
        limits::apply(&config.rlimits).map_err(step("lower resource limits"))?;
        let run_dir_file = run_dir.as_ref().map(|(file, _)| *file);
        if let Some(file) = run_dir_file {
            privileges::hand_over(file, config).map_err(step("give the run directory to sandbox.uid"))?;
        }
        let become_user = || privileges::become_user(config);
        match self.spaces {
            Some(spaces) => {
                let folders: Vec<_> = run_dir.into_iter().chain(working.clone()).collect();
                let entered = spaces.enter(&folders, become_user);
                match entered.map_err(step("enter namespaces; sandbox.namespaces false does without"))? {
                    Entered::All => state.in_force.push("namespaces".to_owned()),
                    Entered::Not(reason) => {
                        state.missing.push(format!("namespaces: {reason}"));
                    }
                }
                // A process cannot make one for itself; in one that was made for it, it is the first.
                match std::process::id() {
                    1 => state.in_force.push("pid namespace".to_owned()),
                    _ => state.missing.push(
                        "pid namespace: whoever starts the process makes it, as by `unshare --pid --fork`"
                            .to_owned(),
                    ),
                }
            }
            None => become_user().map_err(step("become another user"))?,
        }
        if let Some((folder, _)) = &working {
            nix::unistd::fchdir(folder)
                .map_err(|error| step("change to the folder of vsock.socket")(error.into()))?;
        }
        privileges::drop_all().map_err(step("drop capabilities"))?;
        state.in_force.push("capabilities".to_owned());
        if config.landlock {
            match landlock::restrict(run_dir_file)
                .map_err(|error| step("use Landlock")(io::Error::other(error)))?
            {
                RulesetStatus::FullyEnforced => state.in_force.push("landlock".to_owned()),
                RulesetStatus::PartiallyEnforced => state.in_force.push("landlock (in part)".to_owned()),
                RulesetStatus::NotEnforced => {
                    state
                        .missing
                        .push("Landlock: this kernel does not have it".to_owned());
                }
            }
        }
        privileges::hide().map_err(step("forbid core dumps"))?;
        for missing in &state.missing {
            if config.strict {
                return Err(SandboxError::Missing(missing.clone()));
            }
            tracing::warn!("the process is not confined by {missing}");
        }
        Ok(state)
    }
}
