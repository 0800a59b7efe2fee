//! Ends the instance in an orderly way, by asking its first process in the language it understands.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::protocol::{AgentError, ErrorKind, ShutdownAction};

/// Name the agent gives itself where it is the first process of a microVM.
pub const AGENT_COMM: &str = "virga-agent";

/// Who the first process is, as far as shutting down is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Init {
    /// systemd(1), "Signals": `SIGRTMIN+3`, `+4` and `+5`.
    Systemd,
    /// busybox's init: `SIGUSR1` halts, `SIGUSR2` powers off, `SIGTERM` reboots. Our own first process does the
    /// same, so that busybox's `poweroff` works there.
    Busybox,
    /// Another one. Its own programs know how to talk to it.
    Other,
}

/// How the instance will be ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan(Step);

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Send this signal to the first process.
    Signal(i32),
    /// Run this program.
    Run(Vec<&'static str>),
}

impl Plan {
    /// Looks at the first process of the agent's process namespace.
    pub fn find(action: ShutdownAction) -> Result<Self, AgentError> {
        let comm = std::fs::read_to_string("/proc/1/comm").unwrap_or_default();
        let program = std::fs::read_link("/proc/1/exe").unwrap_or_default();
        let init = identify(comm.trim(), &program);
        choose(init, action, |path| Path::new(path).exists())
            .map(Self)
            .ok_or_else(|| AgentError {
                kind: ErrorKind::Failed,
                message: format!(
                    "the first process {:?} is no known init system and there is no shutdown program",
                    comm.trim()
                ),
            })
    }

    /// Does it. The instance ends some time later.
    pub fn carry_out(self) -> io::Result<()> {
        match self.0 {
            Step::Signal(signal) => {
                // SAFETY: plain system call. nix's kill does not know real-time signals.
                match unsafe { nix::libc::kill(1, signal) } {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            }
            Step::Run(command) => {
                let mut child = Command::new(command[0])
                    .args(&command[1..])
                    .stdin(Stdio::null())
                    .spawn()?;
                // Programs of this kind return at once; the instance's end takes the agent with it anyway.
                child.wait().map(drop)
            }
        }
    }
}

fn identify(comm: &str, program: &Path) -> Init {
    let name = program
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    match (comm, name) {
        (AGENT_COMM, _) | (_, "busybox") => Init::Busybox,
        ("systemd", _) | (_, "systemd") => Init::Systemd,
        _ => Init::Other,
    }
}

fn choose(init: Init, action: ShutdownAction, exists: impl Fn(&str) -> bool) -> Option<Step> {
    use ShutdownAction::{Halt, Poweroff, Reboot};
    let signal = match (init, action) {
        (Init::Systemd, Halt) => nix::libc::SIGRTMIN() + 3,
        (Init::Systemd, Poweroff) => nix::libc::SIGRTMIN() + 4,
        (Init::Systemd, Reboot) => nix::libc::SIGRTMIN() + 5,
        (Init::Busybox, Halt) => nix::libc::SIGUSR1,
        (Init::Busybox, Poweroff) => nix::libc::SIGUSR2,
        (Init::Busybox, Reboot) => nix::libc::SIGTERM,
        (Init::Other, _) => {
            let programs: [&[&'static str]; 4] = match action {
                Poweroff => [
                    &["/sbin/shutdown", "-P", "now"],
                    &["/usr/sbin/shutdown", "-P", "now"],
                    &["/sbin/poweroff"],
                    &["/usr/sbin/poweroff"],
                ],
                Reboot => [
                    &["/sbin/shutdown", "-r", "now"],
                    &["/usr/sbin/shutdown", "-r", "now"],
                    &["/sbin/reboot"],
                    &["/usr/sbin/reboot"],
                ],
                Halt => [
                    &["/sbin/shutdown", "-H", "now"],
                    &["/usr/sbin/shutdown", "-H", "now"],
                    &["/sbin/halt"],
                    &["/usr/sbin/halt"],
                ],
            };
            let found = programs.into_iter().find(|command| exists(command[0]))?;
            return Some(Step::Run(found.to_vec()));
        }
    };
    Some(Step::Signal(signal))
}

#[cfg(test)]
#[path = "shutdown_tests.rs"]
mod tests;
