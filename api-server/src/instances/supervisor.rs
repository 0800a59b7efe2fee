//! Supervisor processes: one per instance, started here, found again here, and watched until they end.
//!
//! A supervisor (`virga-run monitor` or `virga-vmm`) is not the daemon's child in life: it has its own session and goes on
//! when the daemon ends. What tells of it is its run directory: `pid.json` while it serves, `exit.json` when it has ended.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::ApiError;

/// `pid.json` of a run directory.
pub const PID_FILE: &str = "pid.json";
/// `exit.json` of a run directory.
pub const EXIT_FILE: &str = "exit.json";
/// How long a supervisor may take to build its instance. A large guest on a busy host needs seconds.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How much of a supervisor's log is quoted when it fails.
const LOG_TAIL: usize = 400;

/// How to run a supervisor.
#[derive(Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where its run directory is.
    pub run_dir: PathBuf,
    /// Where its own messages go.
    pub log: PathBuf,
    /// Descriptors it inherits under the numbers they have here.
    pub descriptors: Vec<OwnedFd>,
    /// Whether it is to be the first process of a pid namespace: one that starts no others.
    pub is_alone: bool,
}

/// A supervisor that runs.
#[derive(Debug)]
pub struct Supervisor {
    /// Its process.
    pub pid: i32,
    /// A handle on the process that no other process can take over.
    pub pidfd: OwnedFd,
}

/// Why an instance ended, from `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Exit {
    /// One of the contract's words: `poweroff`, `reset`, `panic`, `killed`, `error`, `exited`.
    pub reason: String,
    /// Exit status of a container's first process.
    #[serde(default)]
    pub status: Option<i32>,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl Exit {
    /// Whether the instance asked to be started again.
    pub fn is_reset(&self) -> bool {
        self.reason == "reset"
    }
}

#[derive(Deserialize)]
struct PidFile {
    pid: i32,
    start_time: u64,
}

/// Starts a supervisor and waits until it serves its control socket.
pub fn launch(launch: Launch) -> Result<Supervisor, ApiError> {
    let log = OpenOptions::new().create(true).append(true).open(&launch.log)?;
    let log_start = log.metadata()?.len();
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log));
    let inherited: Vec<RawFd> = launch.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    // SAFETY: the closure runs between fork and exec and only makes system calls that are allowed there (setsid, fcntl);
    // it allocates nothing and touches nothing but its own copy of the descriptors' numbers.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            for fd in &inherited {
                if libc::fcntl(*fd, libc::F_SETFD, 0) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let spawned = if launch.is_alone {
        vmm::spawn::in_pid_namespace(command)
    } else {
        command.spawn()
    };
    let mut child = spawned.map_err(|error| {
        ApiError::internal(format!(
            "Failed to run {}: {error}; is Virga installed completely?",
            launch.program.display()
        ))
    })?;
    match wait_until_ready(&mut child, &launch.run_dir) {
        Ok(supervisor) => Ok(supervisor),
        Err(reason) => {
            // It may still be there, if it was only slow.
            let _ = child.kill();
            let _ = child.wait();
            Err(ApiError::internal(explain(&reason, &launch, log_start)))
        }
    }
}

fn wait_until_ready(child: &mut Child, run_dir: &Path) -> Result<Supervisor, String> {
    let deadline = Instant::now() + READY_TIMEOUT;
    let pid = child.id() as i32;
    let pidfd = open_pidfd(pid).map_err(|error| format!("cannot watch process {pid}: {error}"))?;
    // Starts take milliseconds, so that is how often to look; a slow one is looked at less often.
    let mut pause = Duration::from_micros(500);
    loop {
        if read_pid_file(run_dir).is_some_and(|file| file.pid == pid) {
            return Ok(Supervisor { pid, pidfd });
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("it ended ({status})"));
        }
        if Instant::now() > deadline {
            return Err(format!("it was not ready within {} s", READY_TIMEOUT.as_secs()));
        }
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(Duration::from_millis(20));
    }
}

/// The most telling thing that can be found about a supervisor that did not come up.
fn explain(reason: &str, launch: &Launch, log_start: u64) -> String {
    if let Some(exit) = read_exit(&launch.run_dir)
        && !exit.message.is_empty()
    {
        return exit.message;
    }
    let text = std::fs::read(&launch.log).unwrap_or_default();
    let text = String::from_utf8_lossy(text.get(log_start as usize..).unwrap_or_default())
        .trim()
        .to_owned();
    let cut = text.char_indices().rev().nth(LOG_TAIL).map_or(0, |(at, _)| at);
    let program = launch
        .program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    match &text[cut..] {
        "" => format!("{program} failed: {reason}"),
        tail => format!("{program} failed: {tail}"),
    }
}

/// The supervisor of a run directory, if there is one that lives.
pub fn find(run_dir: &Path) -> Option<Supervisor> {
    let file = read_pid_file(run_dir)?;
    let pidfd = open_pidfd(file.pid).ok()?;
    // Looked at after the handle was opened: from now on the number cannot change its meaning unnoticed.
    (start_time(file.pid)? == file.start_time).then_some(Supervisor { pid: file.pid, pidfd })
}

/// How the instance of a run directory ended, if its supervisor wrote that down.
pub fn read_exit(run_dir: &Path) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(run_dir.join(EXIT_FILE)).ok()?).ok()
}

fn read_pid_file(run_dir: &Path) -> Option<PidFile> {
    serde_json::from_slice(&std::fs::read(run_dir.join(PID_FILE)).ok()?).ok()
}

/// When a process was started, in clock ticks after boot: field 22 of proc(5)'s `stat`, counted behind the name, which may
/// contain spaces and parentheses. A process that has ended and only waits to be collected counts as gone.
pub fn start_time(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    // Field 3, the state, is the first one here.
    match *fields.first()? {
        "Z" | "X" => None,
        _ => fields.get(19)?.parse().ok(),
    }
}

/// When a process was started, in seconds since 1970.
pub fn started_at(pid: i32) -> Option<f64> {
    let ticks = start_time(pid)?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    (per_second > 0).then(|| boot + ticks as f64 / per_second as f64)
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes a number and flags and returns a descriptor or an error (pidfd_open(2)).
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Waits until the process behind the handle has ended, and collects it if it is a child of this process.
pub async fn ended(pidfd: &OwnedFd) -> io::Result<()> {
    // A copy, because the reactor wants to own what it watches.
    let copy = pidfd.try_clone()?;
    // SAFETY: the descriptor is open, owned by what watches it, and stays the same until that is dropped.
    let watched =
        unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }.map_err(io::Error::from)?;
    let _ready = watched.readable().await?;
    collect(pidfd);
    Ok(())
}

/// Collects an ended child. For a process that another daemon started there is nothing to do (ECHILD).
pub fn collect(pidfd: &OwnedFd) {
    // SAFETY: an all-zero siginfo_t is valid, it is plain data.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: waitid writes one siginfo_t, which lives across the call.
    unsafe {
        libc::waitid(
            libc::P_PIDFD,
            pidfd.as_raw_fd() as libc::id_t,
            &mut info,
            libc::WEXITED | libc::WNOHANG,
        );
    }
}

/// Kills a process and waits, at most so long, for its end.
pub fn kill(supervisor: &Supervisor, patience: Duration) -> bool {
    // SAFETY: pidfd_send_signal with a null siginfo behaves like kill (pidfd_send_signal(2)).
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            supervisor.pidfd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        );
    }
    let is_over = wait(supervisor, patience);
    collect(&supervisor.pidfd);
    is_over
}

/// Waits, at most so long, for the end of a process.
pub fn wait(supervisor: &Supervisor, patience: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: supervisor.pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: poll reads and writes one pollfd, which lives across the call.
    unsafe { libc::poll(&mut poll, 1, milliseconds) > 0 }
}

/// A program of ours: beside the daemon's own, or where `VIRGA_LIBEXEC_DIR` says.
pub fn program(name: &str) -> Result<PathBuf, ApiError> {
    let directory = match std::env::var_os("VIRGA_LIBEXEC_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => std::env::current_exe()?
            .parent()
            .map(Path::to_path_buf)
            .unwrap_or_default(),
    };
    let path = directory.join(name);
    match File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(ApiError::internal(format!(
            "Cannot find {name} at {}: {error}; set VIRGA_LIBEXEC_DIR to the folder with Virga's programs",
            path.display()
        ))),
    }
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
