//! The supervisor of one container: a small single-threaded process that outlives the daemon.
//!
//! It makes the container, then waits in one poll loop for the init process to end, for control requests, console clients
//! and signals. Its run directory tells the rest of the world about it: `pid.json` once it accepts requests, `container.json`
//! for those who join, `exit.json` as its last act. If it dies, the kernel kills the container (`PR_SET_PDEATHSIG`), and
//! [`crate::cleanup`] removes what is left.

mod connection;
mod console;
mod control;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::cgroup::Cgroup;
use crate::init::InitSystem;
use crate::launch::{self, Created, IdExtent, system};
use crate::spec::ContainerSpec;
use crate::state::{ContainerFile, ExitFile, ExitReason, Phase, PidFile, State};
use crate::sys::process::pidfd_kill;
use crate::{Error, Result, process, run_dir, socket};
use connection::Connection;
use console::Console;

/// Requests in progress at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 16;

/// A container and everything the loop needs.
pub(crate) struct Monitor {
    dir: PathBuf,
    spec: ContainerSpec,
    cgroup: Cgroup,
    created: Created,
    console: Console,
    control: UnixListener,
    signals: SignalFd,
    connections: Vec<Connection>,
    phase: Phase,
    stop_signal: i32,
    reboot_signal: Option<i32>,
    /// When a clean shutdown has taken too long.
    kill_at: Option<Instant>,
    /// Why init could not be executed.
    start_error: Option<String>,
}

/// Runs a container from its run directory to its end. Writes `exit.json` whatever happens.
pub fn run(dir: &Path) -> Result<()> {
    // Of an earlier run: whoever waits for them must see this one's.
    for name in [run_dir::EXIT, run_dir::PID, run_dir::CONTAINER] {
        run_dir::remove(dir.join(name))?;
    }
    let outcome = Monitor::create(dir).and_then(|mut monitor| {
        let ended = monitor.serve();
        monitor.finish(ended)
    });
    let exit = match &outcome {
        Ok(exit) => exit.clone(),
        Err(error) => ExitFile {
            reason: ExitReason::Error,
            status: None,
            message: error.chain(),
            oom_kills: 0,
        },
    };
    for name in [run_dir::CONTROL_SOCKET, run_dir::CONSOLE_SOCKET] {
        run_dir::remove(dir.join(name))?;
    }
    run_dir::write_document(dir, run_dir::EXIT, &exit, true)?;
    outcome.map(drop)
}

/// One line for `virga.log`.
fn log(text: &str) {
    eprintln!("virga-run: {text}");
}

impl Monitor {
    fn create(dir: &Path) -> Result<Self> {
        let spec = ContainerSpec::read(&dir.join(run_dir::SPEC))?;
        let signals = catch_signals()?;
        let name = run_dir::cgroup_name(&spec.name, dir);
        // What a monitor that was killed has left.
        Cgroup::named(&name, true)?.destroy()?;
        let control = listen(&dir.join(run_dir::CONTROL_SOCKET))?;
        let clients = listen(&dir.join(run_dir::CONSOLE_SOCKET))?;
        let plan = system::plan(&spec)?;
        let owner = (
            IdExtent::outside(&plan.uid_map, 0),
            IdExtent::outside(&plan.gid_map, 0),
        );
        let owner = (owner.0.unwrap_or(0), owner.1.unwrap_or(0));
        let cgroup = Cgroup::create(
            &name,
            &spec.limits,
            Some(&system::device_rules(&plan)),
            Some(owner),
        )?;
        let made = launch::create(&plan, &cgroup).and_then(|mut created| {
            let terminal = created
                .console
                .take()
                .ok_or_else(|| Error::Child("no console".to_owned()))?;
            Ok((created, Console::new(terminal, clients, &spec.console_log)?))
        });
        let (created, console) = match made {
            Ok(made) => made,
            Err(error) => {
                cgroup.destroy()?;
                return Err(error);
            }
        };
        let init = InitSystem::detect(&spec.rootfs, &spec.init);
        let monitor = Self {
            dir: dir.to_path_buf(),
            stop_signal: spec.stop_signal.unwrap_or(init.stop_signal()),
            reboot_signal: init.reboot_signal(),
            spec,
            cgroup,
            created,
            console,
            control,
            signals,
            connections: Vec::new(),
            phase: Phase::Created,
            kill_at: None,
            start_error: None,
        };
        if let Err(error) = monitor.publish(&name) {
            monitor.kill_all();
            return Err(error);
        }
        Ok(monitor)
    }

    /// Tells the world, `pid.json` last.
    fn publish(&self, cgroup: &str) -> Result<()> {
        let init_pid = self.created.pid;
        let container = ContainerFile {
            init_pid,
            init_start_time: process::start_time(init_pid).unwrap_or_default(),
            cgroup: cgroup.to_owned(),
        };
        run_dir::write_document(&self.dir, run_dir::CONTAINER, &container, false)?;
        let pid = std::process::id() as i32;
        let own = PidFile {
            pid,
            start_time: process::start_time(pid).unwrap_or_default(),
        };
        run_dir::write_document(&self.dir, run_dir::PID, &own, false)
    }

    /// The loop; returns how init ended.
    fn serve(&mut self) -> Result<WaitStatus> {
        loop {
            let ready = self.wait()?;
            if ready.signal {
                self.take_signals();
            }
            self.console.handle(&ready.console);
            // Backwards, so that those that are done can be taken out on the way.
            for at in (0..self.connections.len()).rev() {
                if ready.connections.get(at) == Some(&true) || self.connections[at].is_late() {
                    self.advance(at);
                }
            }
            if ready.control {
                self.accept();
            }
            if self.kill_at.is_some_and(|deadline| Instant::now() >= deadline) {
                log("the container has not stopped in time: killing it");
                self.kill_at = None;
                self.kill_all();
            }
            if ready.init {
                match waitid(
                    Id::PIDFd(self.created.pidfd.as_fd()),
                    WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG,
                ) {
                    Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                    Ok(status) => return Ok(status),
                    Err(error) => return Err(Error::system("wait for init", error)),
                }
            }
        }
    }

    fn wait(&self) -> Result<Ready> {
        let reading = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut watched = vec![
            reading(self.created.pidfd.as_fd()),
            reading(self.signals.as_fd()),
            PollFd::new(
                self.control.as_fd(),
                if self.connections.len() < MAX_CONNECTIONS {
                    PollFlags::POLLIN
                } else {
                    PollFlags::empty()
                },
            ),
        ];
        let fixed = watched.len();
        watched.extend(
            self.connections
                .iter()
                .map(|connection| reading(connection.as_fd())),
        );
        let first_console = watched.len();
        self.console.watch(&mut watched);
        match poll(&mut watched, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::system("wait for events", error)),
        }
        let happened = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        Ok(Ready {
            init: happened(&watched[0]),
            signal: happened(&watched[1]),
            control: happened(&watched[2]),
            connections: watched[fixed..first_console].iter().map(happened).collect(),
            console: watched[first_console..]
                .iter()
                .map(|fd| fd.revents().unwrap_or(PollFlags::empty()))
                .collect(),
        })
    }

    /// Nothing to do is the rule: then the process sleeps until something happens.
    fn timeout(&self) -> PollTimeout {
        let now = Instant::now();
        let deadlines = self
            .kill_at
            .into_iter()
            .chain(self.connections.iter().map(Connection::deadline));
        let next = deadlines.chain(self.console.retry_at()).min();
        next.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(now) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        })
    }

    fn take_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if matches!(info.ssi_signo as i32, libc::SIGTERM | libc::SIGINT) {
                log("asked to end: shutting the container down");
                self.stop();
            }
        }
    }

    /// Asks init to shut down, and sets the time after which it is killed.
    fn stop(&mut self) {
        if self.phase == Phase::Created || self.signal(self.stop_signal).is_err() {
            self.kill_all();
            return;
        }
        let patience = Duration::from_secs(u64::from(self.spec.stop_timeout_seconds));
        self.kill_at.get_or_insert(Instant::now() + patience);
    }

    fn signal(&mut self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL || self.phase == Phase::Created {
            // A held init has no handlers: as the first of its pid namespace it would ignore everything else (pid_namespaces(7)).
            self.kill_all();
            return Ok(());
        }
        if self.phase == Phase::Frozen {
            self.cgroup.freeze(false)?;
            self.phase = Phase::Running;
        }
        pidfd_kill(&self.created.pidfd, signal).map_err(|e| Error::system(format!("send signal {signal}"), e))
    }

    fn kill_all(&self) {
        drop(pidfd_kill(&self.created.pidfd, libc::SIGKILL));
        // Frozen processes of a v1 freezer do not even die.
        self.cgroup.kill();
    }

    fn accept(&mut self) {
        if let Ok((stream, _)) = self.control.accept() {
            match Connection::new(stream) {
                Ok(connection) => self.connections.push(connection),
                Err(error) => log(&format!("control connection: {error}")),
            }
        }
    }

    /// Reads more of a request, answers it when it is whole.
    fn advance(&mut self, at: usize) {
        match self.connections[at].request() {
            Ok(None) if !self.connections[at].is_late() => {}
            Ok(None) => drop(self.connections.swap_remove(at)),
            Ok(Some(request)) => {
                let (status, body) = self.answer(&request);
                self.connections.swap_remove(at).respond(status, &body);
            }
            Err(error) => {
                let body = control::error_body(&error.chain());
                self.connections.swap_remove(at).respond(400, &body);
            }
        }
    }

    fn state(&self) -> State {
        State {
            state: self.phase,
            init_pid: self.created.pid,
            pid: std::process::id() as i32,
            stop_signal: self.stop_signal,
            reboot_signal: self.reboot_signal,
        }
    }

    /// Collects what is left and says how it ended.
    fn finish(mut self, ended: Result<WaitStatus>) -> Result<ExitFile> {
        self.phase = Phase::Stopped;
        self.console.drain();
        let oom_kills = self.cgroup.metrics().oom_kills;
        self.kill_all();
        let destroyed = self.cgroup.destroy();
        run_dir::remove(self.dir.join(run_dir::CONTAINER))?;
        let mut exit = explain(ended?, oom_kills);
        if let Some(error) = self.start_error.take() {
            exit = ExitFile {
                reason: ExitReason::Error,
                message: error,
                ..exit
            };
        }
        log(&exit.message);
        destroyed?;
        Ok(exit)
    }
}

/// What one wait has found.
struct Ready {
    init: bool,
    signal: bool,
    control: bool,
    connections: Vec<bool>,
    console: Vec<PollFlags>,
}

/// reboot(2) in a pid namespace ends its init with SIGHUP for a restart and SIGINT for halt and power-off; nothing else can kill
/// an init with these, because signals without handler are ignored there (pid_namespaces(7)).
fn explain(status: WaitStatus, oom_kills: u64) -> ExitFile {
    let (reason, status, message) = match status {
        WaitStatus::Signaled(_, Signal::SIGHUP, _) => {
            (ExitReason::Reset, None, "the container reboots".to_owned())
        }
        WaitStatus::Signaled(_, Signal::SIGINT, _) => (
            ExitReason::Poweroff,
            None,
            "the container has powered off".to_owned(),
        ),
        WaitStatus::Signaled(_, Signal::SIGKILL, _) if oom_kills > 0 => (
            ExitReason::Killed,
            Some(128 + libc::SIGKILL),
            "init was killed: the container had used up its memory".to_owned(),
        ),
        WaitStatus::Signaled(_, signal, _) => (
            ExitReason::Killed,
            Some(128 + signal as i32),
            format!("init was killed by {signal}"),
        ),
        WaitStatus::Exited(_, code) => (
            ExitReason::Exited,
            Some(code),
            format!("init has ended with status {code}"),
        ),
        other => (
            ExitReason::Error,
            None,
            format!("init ended in an unknown way: {other:?}"),
        ),
    };
    ExitFile {
        reason,
        status,
        message,
        oom_kills,
    }
}

fn catch_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        set.add(signal);
    }
    set.thread_block()
        .map_err(|e| Error::system("block signals", e))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|e| Error::system("watch signals", e))
}

fn listen(path: &Path) -> Result<UnixListener> {
    socket::bind(path)
        .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
        .map_err(|e| Error::file("listen on", path, e))
}

/// A read or write that may be tried again later.
fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// Descriptors live as long as their owner is borrowed.
type Watched<'a> = PollFd<'a>;

fn watch(fd: BorrowedFd<'_>, flags: PollFlags) -> Watched<'_> {
    PollFd::new(fd, flags)
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
