//! The first process after boot: the image's init, or a small one of our own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::reboot::set_cad_enabled;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::{BootError, button, power, say};
use crate::config::Listen;
use crate::protocol::ShutdownAction;
use crate::server::shutdown::AGENT_COMM;

/// Where images have their init system, in the order in which the kernel and distributions look.
const INITS: [&str; 7] = [
    "/sbin/init",
    "/usr/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
    "/etc/init",
    "/bin/init",
    "/init",
];

/// A server that ends sooner than this after its start is not started again at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// The image's init system.
pub(super) fn find() -> Option<PathBuf> {
    let is_program = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    INITS.iter().map(PathBuf::from).find(|path| is_program(path))
}

/// Starts the process that serves the host. It outlives the change of the first process into the image's init,
/// which takes it for a child it has not heard of yet.
pub(super) fn fork_server(listen: &Listen) -> Result<Pid, BootError> {
    // SAFETY: the first process has a single thread at this point, so the child may do anything.
    match unsafe { fork() }.map_err(BootError::because("fork the server"))? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let error = match serve(listen) {
                Ok(never) => match never {},
                Err(error) => error,
            };
            say(format_args!("cannot serve {listen:?}: {error}"));
            std::process::exit(1)
        }
    }
}

fn serve(listen: &Listen) -> io::Result<Infallible> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    nix::unistd::setsid()?;
    name_this_process();
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    button::watch();
    match listen {
        Listen::Vsock(port) => crate::listen::vsock(*port),
        Listen::Device(path) => crate::listen::device(Path::new(path)),
    }
}

/// In process lists, and for whoever wants to know what kind of init this is.
fn name_this_process() {
    if let Ok(name) = std::ffi::CString::new(AGENT_COMM) {
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Replaces the first process by the image's init.
pub(super) fn become_image_init(
    program: &Path,
    environment: &BTreeMap<String, String>,
) -> Result<Infallible, BootError> {
    let error = Command::new(program)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .exec();
    Err(BootError::because(format_args!("run {}", program.display()))(
        error,
    ))
}

/// Stays the first process: keeps the server and the command going, reaps what is left to it, obeys signals as
/// busybox's init does. Ends when the machine does.
pub(super) fn stay(
    listen: &Listen,
    command: &[String],
    environment: &BTreeMap<String, String>,
) -> Result<Infallible, BootError> {
    name_this_process();
    let _ = set_cad_enabled(false); // Ctrl-Alt-Del becomes SIGINT to this process
    let signals = Signals::block().map_err(BootError::because("block signals"))?;
    let mut server = fork_server(listen)?;
    let mut started = Instant::now();
    let command = match command {
        [] => None,
        [program, arguments @ ..] => Some(
            start(program, arguments, environment)
                .map_err(BootError::because(format_args!("run {program:?}")))?,
        ),
    };
    loop {
        if let Some(action) = signals.wait() {
            power::shut_down(action);
        }
        for status in ended_children() {
            let pid = status.pid();
            if pid == command {
                say(format_args!("the command ended: {status:?}"));
                power::shut_down(ShutdownAction::Poweroff);
            }
            if pid == Some(server) {
                say(format_args!("the server ended: {status:?}; starting it again"));
                if started.elapsed() < SHORT_LIFE {
                    std::thread::sleep(SHORT_LIFE);
                }
                server = fork_server(listen)?;
                started = Instant::now();
            }
        }
    }
}

fn ended_children() -> impl Iterator<Item = WaitStatus> {
    std::iter::from_fn(|| {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return None,
                Ok(status) => return Some(status),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    })
}

/// Starts the command on the console, as leader of a session, so that Ctrl-C there reaches it.
fn start(program: &str, arguments: &[String], environment: &BTreeMap<String, String>) -> io::Result<Pid> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir("/");
    if let Some(console) = console() {
        command
            .stdin(console.try_clone()?)
            .stdout(console.try_clone()?)
            .stderr(console);
    } else {
        command.stdin(Stdio::inherit());
    }
    let session = || {
        // SAFETY: plain, async-signal-safe system calls. A console that is no terminal refuses to be
        // controlling, and the command does without.
        unsafe {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
        }
        Ok(())
    };
    // SAFETY: see inside the closure; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(session) };
    // Reaped by `ended_children`, like every process here.
    command.spawn().map(|child| Pid::from_raw(child.id() as i32))
}

/// The terminal behind /dev/console, which cannot be a controlling terminal itself.
fn console() -> Option<File> {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").ok()?;
    let name = active.split_whitespace().last()?.to_owned();
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(Path::new("/dev").join(name))
        .ok()
}

/// The signals the first process waits for.
struct Signals(libc::sigset_t);

impl Signals {
    fn numbers() -> [i32; 9] {
        let realtime = libc::SIGRTMIN();
        [
            libc::SIGCHLD,
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGPWR,
            realtime + 3,
            realtime + 4,
            realtime + 5,
        ]
    }

    /// They are delivered by `wait` only. nix's sets do not know real-time signals.
    fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set before anything reads it; the numbers are valid signals.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in Self::numbers() {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            set.assume_init()
        };
        // SAFETY: both pointers are valid or null as sigprocmask(2) allows.
        match unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) } {
            0 => Ok(Self(set)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for one; `None` when only children need attention.
    fn wait(&self) -> Option<ShutdownAction> {
        // SAFETY: the set is valid, and no information about the signal is asked for.
        let signal = unsafe { libc::sigwaitinfo(&self.0, std::ptr::null_mut()) };
        meaning(signal)
    }
}

/// What a signal to the first process asks for: busybox's signals, systemd's, a power failure and Ctrl-Alt-Del.
fn meaning(signal: i32) -> Option<ShutdownAction> {
    let realtime = signal - libc::SIGRTMIN();
    match (signal, realtime) {
        (libc::SIGUSR1, _) | (_, 3) => Some(ShutdownAction::Halt),
        (libc::SIGUSR2 | libc::SIGPWR, _) | (_, 4) => Some(ShutdownAction::Poweroff),
        (libc::SIGTERM | libc::SIGINT, _) | (_, 5) => Some(ShutdownAction::Reboot),
        _ => None,
    }
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
