//! The start of the process: open what the VM needs, build the machine, give up privileges, hand over to the
//! [`Supervisor`], and leave `exit.json` behind whatever happens.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde_json::json;
use thiserror::Error;

use crate::builder::{self, Built};
use crate::clock::BootClock;
use crate::config::VmConfig;
use crate::console::Console;
use crate::console_log::ConsoleLog;
use crate::control::server::Server;
use crate::exit::{EXIT_FILE, ExitReason, ExitReport, Sync, write_json_at};
use crate::exit_signal::ExitSignal;
use crate::faults;
use crate::host_file;
use crate::kvm::vcpu;
use crate::log;
use crate::machine::{BuildError, LifeError};
use crate::process::Process;
use crate::sandbox::seccomp::{Filters, ThreadKind};
use crate::sandbox::{Sandbox, SandboxError};
use crate::supervisor::{Parts, Supervisor};

/// Name of the file that says which process this is.
const PID_FILE: &str = "pid.json";

/// Why a VM could not be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file or socket of the run directory.
    #[error("cannot use {what} {path:?}: {source}")]
    Path {
        /// What it is for.
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The machine.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The process could not be confined.
    #[error("cannot confine the VM: {0}")]
    Sandbox(#[from] SandboxError),
    /// A thread could not be started or its filter not be installed.
    #[error("cannot set up a thread: {0}")]
    Thread(#[source] io::Error),
    /// An event loop, signal or event descriptor.
    #[error("cannot set up the event loop: {0}")]
    Events(#[source] io::Error),
    /// The guest could not be started.
    #[error(transparent)]
    Life(#[from] LifeError),
}

/// The run directory, which stays open while the process lives.
struct RunDir {
    path: PathBuf,
    file: File,
}

impl RunDir {
    fn open(path: &Path) -> Result<Self, StartError> {
        let failed = |source| StartError::Path {
            what: "the run directory",
            path: path.to_owned(),
            source,
        };
        match DirBuilder::new().mode(0o711).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let file = File::open(path).map_err(failed)?;
        // Reports of an earlier run must not be taken for this one's.
        for name in [EXIT_FILE, PID_FILE] {
            match fs::remove_file(path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }
}

/// Runs the VM to its end. `Err` means that it never started; `exit.json` is written in either case, if it can be.
pub fn run(config: VmConfig, clock: BootClock) -> Result<ExitReport, StartError> {
    let run_dir = RunDir::open(&config.run_dir)?;
    let outcome = start(config, clock, &run_dir).map(Supervisor::serve);
    let report = match &outcome {
        Ok(report) => report.clone(),
        Err(error) => ExitReport::new(ExitReason::Error, chain(error)),
    };
    if let Err(error) = write_json_at(&run_dir.file, EXIT_FILE, Sync::Yes, &report) {
        tracing::error!(path = %run_dir.path.join(EXIT_FILE).display(), %error, "cannot write the exit report");
    }
    outcome
}

/// An error with all its causes, on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Messages of ours often have their cause in them.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn listen(config: &VmConfig, what: &'static str, path: &Path) -> Result<UnixListener, StartError> {
    let path = config.resolve(path);
    host_file::listen(&path).map_err(|source| StartError::Path { what, path, source })
}

fn start(config: VmConfig, clock: BootClock, run_dir: &RunDir) -> Result<Supervisor, StartError> {
    let clock = Arc::new(clock);
    let mut process = Process::here().map_err(StartError::Events)?;
    let exit = ExitSignal::new().map_err(StartError::Events)?;
    let signals = block_signals().map_err(StartError::Events)?;
    report_panics(exit.clone());
    let sandbox = Sandbox::prepare(&config.sandbox)?;
    let filters = if config.sandbox.seccomp {
        Filters::On
    } else {
        Filters::Off
    };

    let server = listen(&config, "the control socket", &config.control_socket)?;
    let server = Server::new(server).map_err(StartError::Events)?;
    let console_socket = config.serial.socket.as_deref();
    let console_listener = console_socket
        .map(|path| listen(&config, "the console socket", path))
        .transpose()?;
    let debugger_socket = config
        .gdb
        .as_ref()
        .map(|gdb| listen(&config, "the debugger's socket", &gdb.socket));
    let debugger_socket = debugger_socket.transpose()?;
    let log = config.serial.log.as_deref().map(|path| {
        let path = config.resolve(path);
        ConsoleLog::open(&path).map_err(|source| StartError::Path {
            what: "the console log",
            path,
            source,
        })
    });
    let log = log.transpose()?;
    let autostart = config.autostart;
    let sockets = [
        Some(&config.control_socket),
        config.serial.socket.as_ref(),
        config.vsock.as_ref().map(|v| &v.socket),
        config.gdb.as_ref().map(|gdb| &gdb.socket),
    ];
    let ports = config.console_ports.iter().map(|port| &port.socket);
    let sockets = sockets
        .into_iter()
        .flatten()
        .chain(ports)
        .filter(|path| !host_file::is_descriptor(path))
        .map(|path| config.resolve(path))
        .filter(|path| path.parent() == Some(&run_dir.path))
        .filter_map(|path| path.file_name().map(OsStr::to_owned))
        .collect();
    let working = working_directory(&config)?;

    let device_cpus = config
        .cpu
        .pinning
        .as_ref()
        .and_then(|pinning| pinning.devices.clone());
    let Built {
        blueprint,
        device_thread,
        serial,
        output,
        input_wanted,
        hvc,
    } = builder::build(config, &exit, &clock, filters)?;
    let console = Console::new(output.clone(), serial, hvc, log, console_listener);
    vcpu::install_kick_handler().map_err(StartError::Events)?;

    host_file::seal();
    let working = working.as_ref().map(|(folder, path)| (folder, path.clone()));
    process.sandbox = sandbox.enter(Some((&run_dir.file, run_dir.path.clone())), working)?;
    note_confinement(&mut process, filters);
    let reporter_dir = run_dir.file.try_clone().map_err(StartError::Events)?;
    faults::install_reporter(exit.clone(), reporter_dir).map_err(StartError::Events)?;
    let device_thread = device_thread
        .start(filters, device_cpus)
        .map_err(StartError::Thread)?;
    let mut machine =
        blueprint.into_machine(exit.clone(), clock.clone(), filters, process, debugger_socket)?;
    clock.built();
    let parts = Parts {
        server,
        console,
        output,
        input_wanted,
        exit,
        signals,
        run_dir: run_dir.file.try_clone().map_err(StartError::Events)?,
        sockets,
    };
    // The kernel compiles a filter in about a quarter of a millisecond, those of several threads side by side.
    filters.install(ThreadKind::Control).map_err(StartError::Thread)?;
    device_thread.wait().map_err(StartError::Thread)?;
    if autostart {
        machine.start()?;
    }
    let pid = json!({ "pid": machine.process().pid, "start_time": machine.process().start_time });
    // The guest runs already while the rest is set up; requests wait in the sockets' queues.
    let supervisor = Supervisor::new(machine, parts).map_err(StartError::Events)?;
    write_json_at(&run_dir.file, PID_FILE, Sync::No, &pid).map_err(|source| StartError::Path {
        what: "the process file",
        path: run_dir.path.join(PID_FILE),
        source,
    })?;
    Ok(supervisor)
}

/// The folder in which the guest's connections to host ports are made, which becomes the working directory.
fn working_directory(config: &VmConfig) -> Result<Option<(File, PathBuf)>, StartError> {
    let socket = config.vsock.as_ref().map(|vsock| config.resolve(&vsock.socket));
    let Some(path) = socket.filter(|path| !host_file::is_descriptor(path)) else {
        return Ok(None);
    };
    let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
    match File::open(&folder) {
        Ok(file) => Ok(Some((file, folder))),
        Err(source) => Err(StartError::Path {
            what: "the folder of vsock.socket",
            path: folder,
            source,
        }),
    }
}

/// Completes what is in force by what is not the sandbox's own doing.
fn note_confinement(process: &mut Process, filters: Filters) {
    if filters == Filters::On {
        process.sandbox.in_force.push("seccomp".to_owned());
    }
}

/// Signals that end the VM are read by the control thread instead of being delivered. Threads inherit this.
fn block_signals() -> io::Result<SignalFd> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        signals.add(signal);
    }
    signals.thread_block()?;
    Ok(SignalFd::with_flags(
        &signals,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

/// A panic of any thread ends the VM with its message instead of leaving it half alive.
fn report_panics(exit: Arc<ExitSignal>) {
    std::panic::set_hook(Box::new(move |info| {
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let message = format!("internal error in thread {thread}: {info}");
        log::say(&message);
        exit.raise(ExitReport::new(ExitReason::Error, message));
    }));
}
