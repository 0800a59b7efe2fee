//! An OCI runtime: the commands of the runtime specification (runtime.md) over bundles with a `config.json`.
//!
//! It makes containers with the same code as the monitor, without one: `create` leaves the held init process behind, `start`
//! connects to a socket on which that process waits. What is known about a container is in `ROOT/ID/state.json`.

mod convert;
mod hooks;
mod resources;
mod seccomp;
mod store;

use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use oci_spec::runtime::Spec;

use crate::cgroup::Cgroup;
use crate::launch::{self, Created};
use crate::sys::process::{pidfd_kill, pidfd_open};
use crate::{Error, Result, process, socket};
use store::{Record, Store};

/// How long `delete --force` waits for a killed process to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `create` and `run` are told.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// Directory with `config.json`.
    pub bundle: PathBuf,
    /// Socket that gets the terminal's master side.
    pub console_socket: Option<PathBuf>,
    /// File that gets the init process' pid.
    pub pid_file: Option<PathBuf>,
}

/// The containers below one root directory.
#[derive(Debug)]
pub struct Runtime {
    store: Store,
}

impl Runtime {
    /// Containers are kept below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            store: Store::new(root),
        }
    }

    /// Makes a container and leaves it waiting for [`Self::start`].
    pub fn create(&self, id: &str, options: &CreateOptions) -> Result<()> {
        self.make(id, options).map(drop)
    }

    fn make(&self, id: &str, options: &CreateOptions) -> Result<(Created, Spec)> {
        let bundle =
            std::fs::canonicalize(&options.bundle).map_err(|e| Error::file("find", &options.bundle, e))?;
        let spec = load(&bundle.join("config.json"))?;
        let dir = self.store.reserve(id)?;
        let made = self.make_in(id, &bundle, &spec, &dir, options);
        if made.is_err() {
            // The first error is the one to report.
            drop(self.store.remove(id));
        }
        made.map(|created| (created, spec))
    }

    fn make_in(
        &self,
        id: &str,
        bundle: &Path,
        spec: &Spec,
        dir: &Path,
        options: &CreateOptions,
    ) -> Result<Created> {
        let mut plan = convert::plan(spec, bundle)?;
        if plan.terminal.is_some() != options.console_socket.is_some() {
            return Err(Error::spec(
                "process.terminal",
                "a terminal needs --console-socket, and a console socket a terminal",
            ));
        }
        let start = dir.join(store::START_SOCKET);
        plan.start_listener = Some(socket::bind(&start).map_err(|e| Error::file("listen on", &start, e))?);
        let (limits, rules) = resources::convert(spec, &plan)?;
        let group = convert::cgroup(spec, id)?;
        // Namespaces of others are entered by this process, which ends soon: its child is then born in them.
        convert::enter_shared(&mut plan)?;
        let cgroup = Cgroup::create(&group, &limits, Some(&rules), None)?;
        let finish = |created: &mut Created| {
            let record = Record {
                oci_version: spec.version().clone(),
                id: id.to_owned(),
                pid: created.pid,
                start_time: process::start_time(created.pid).unwrap_or_default(),
                bundle: bundle.to_path_buf(),
                cgroup: group.clone(),
                annotations: spec
                    .annotations()
                    .clone()
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
            };
            hooks::run(spec, hooks::Stage::Create, &record.state("creating"))?;
            if let (Some(path), Some(console)) = (&options.console_socket, created.console.take()) {
                hand_over(path, &console)?;
            }
            if let Some(path) = &options.pid_file {
                std::fs::write(path, created.pid.to_string()).map_err(|e| Error::file("write", path, e))?;
            }
            self.store.write(&record)
        };
        let made = launch::create(&plan, &cgroup).and_then(|mut created| match finish(&mut created) {
            Ok(()) => Ok(created),
            Err(error) => {
                drop(pidfd_kill(&created.pidfd, libc::SIGKILL));
                Err(error)
            }
        });
        if made.is_err() {
            drop(cgroup.destroy());
        }
        made
    }

    /// Lets a created container's process run.
    pub fn start(&self, id: &str) -> Result<()> {
        let record = self.store.read(id)?;
        let path = self.store.start_socket(id)?;
        if record.status(&path) != "created" {
            return Err(Error::spec(
                "id",
                format!("{id} is {}, not created", record.status(&path)),
            ));
        }
        let mut stream = socket::connect(&path).map_err(|e| Error::file("connect to", &path, e))?;
        let mut answer = Vec::new();
        // A reset is what a process that died of its filter leaves.
        let _ = stream.read_to_end(&mut answer);
        crate::run_dir::remove(path)?;
        match answer.split_first() {
            None => hooks::run(
                &load(&record.bundle.join("config.json"))?,
                hooks::Stage::Poststart,
                &record.state("running"),
            ),
            Some((_, text)) => Err(Error::Child(String::from_utf8_lossy(text).into_owned())),
        }
    }

    /// The state document of runtime.md, "State".
    pub fn state(&self, id: &str) -> Result<serde_json::Value> {
        let record = self.store.read(id)?;
        Ok(record.state(record.status(&self.store.start_socket(id)?)))
    }

    /// Signals the container's process, or with `all` every process in its control group.
    pub fn kill(&self, id: &str, signal: &str, all: bool) -> Result<()> {
        let record = self.store.read(id)?;
        let signal = parse_signal(signal)?;
        if all && signal == libc::SIGKILL {
            Cgroup::named(&record.cgroup, false)?.kill();
            return Ok(());
        }
        let pidfd = pidfd_open(record.pid).ok().filter(|_| record.is_alive());
        let Some(pidfd) = pidfd else {
            return Err(Error::spec("id", format!("{id} is stopped")));
        };
        pidfd_kill(pidfd, signal).map_err(|e| Error::system(format!("send signal {signal}"), e))
    }

    /// Removes a stopped container; with `force` a running one is killed first, and a missing one is fine.
    pub fn delete(&self, id: &str, force: bool) -> Result<()> {
        let record = match self.store.read(id) {
            Ok(record) => record,
            Err(_) if force => return self.store.remove(id),
            Err(error) => return Err(error),
        };
        let status = record.status(&self.store.start_socket(id)?);
        if !force && status == "running" {
            return Err(Error::spec(
                "id",
                format!("{id} is running: kill it first, or delete with --force"),
            ));
        }
        let cgroup = Cgroup::named(&record.cgroup, false)?;
        if status != "stopped" {
            // It may end by itself between the look at its status and the signal.
            if let Err(error) = self.kill(id, "KILL", false)
                && record.is_alive()
            {
                return Err(error);
            }
            cgroup.kill();
            let deadline = Instant::now() + PATIENCE;
            while record.is_alive() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        cgroup.destroy()?;
        if let Ok(spec) = load(&record.bundle.join("config.json")) {
            hooks::run(&spec, hooks::Stage::Poststop, &record.state("stopped"))?;
        }
        self.store.remove(id)
    }

    /// Creates, starts, waits for and deletes a container; its exit status.
    pub fn run(&self, id: &str, options: &CreateOptions, detach: bool) -> Result<i32> {
        let (created, _) = self.make(id, options)?;
        let started = self.start(id);
        if detach {
            return started.map(|()| 0);
        }
        if started.is_err() {
            drop(pidfd_kill(&created.pidfd, libc::SIGKILL));
        }
        let status = wait(&created)?;
        self.delete(id, true)?;
        started.map(|()| status)
    }
}

fn load(path: &Path) -> Result<Spec> {
    let text = std::fs::read(path).map_err(|e| Error::file("read", path, e))?;
    serde_json::from_slice(&text).map_err(|source| Error::Document {
        path: path.to_path_buf(),
        source,
    })
}

fn wait(created: &Created) -> Result<i32> {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    loop {
        match waitid(Id::PIDFd(created.pidfd.as_fd()), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::system("wait for the container", error)),
        }
    }
}

/// A number, or a name with or without `SIG`; real-time signals as `RTMIN+3`.
fn parse_signal(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Ok(number) = name.parse::<i32>() {
        Some(number)
    } else if let Some(offset) = name.strip_prefix("RTMIN") {
        if offset.is_empty() {
            Some(0)
        } else {
            offset.parse::<i32>().ok()
        }
        .map(|n| libc::SIGRTMIN() + n)
    } else {
        Signal::from_str(&format!("SIG{name}"))
            .ok()
            .map(|signal| signal as i32)
    };
    number
        .filter(|number| (0..=64).contains(number))
        .ok_or_else(|| Error::spec("signal", format!("{text:?} is not a signal")))
}

/// Sends the terminal to whoever listens on `path`, as container engines expect.
fn hand_over(path: &Path, console: &OwnedFd) -> Result<()> {
    let stream = socket::connect(path).map_err(|e| Error::file("connect to", path, e))?;
    let fds = [console.as_raw_fd()];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(b"/dev/console")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
    .map_err(|e| Error::file("send the terminal to", path, e))
}

/// A field that asks for what this runtime cannot do.
fn unsupported(field: &str, what: &str) -> Error {
    Error::spec(field, format!("{what} is not supported by this runtime"))
}

#[cfg(test)]
#[path = "oci_tests.rs"]
mod tests;
