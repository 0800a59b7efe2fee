//! Starts a command: its terminal or pipes, its identity, its environment.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, fchown, pipe2};
use tokio::process::Child;

use super::async_file::AsyncFile;
use super::users;
use crate::protocol::{AgentError, ErrorKind, ExecRequest, Frame};

/// Where programs are looked for when the request does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Status of a command that was not found, as a shell has it.
const NOT_FOUND: i32 = 127;

/// Status of a command that was found but cannot be executed.
const NOT_EXECUTABLE: i32 = 126;

/// Where output comes from, and the kind of frame it goes into.
pub(super) type Output = (Arc<AsyncFile>, fn(Bytes) -> Frame);

/// A running command. Its process group is killed when this is dropped before [`Process::reaped`].
#[derive(Debug)]
pub(super) struct Process {
    /// To wait for.
    pub(super) child: Child,
    /// Where input goes, if the client has any.
    pub(super) input: Option<Arc<AsyncFile>>,
    /// Where output comes from.
    pub(super) outputs: Vec<Output>,
    /// The terminal's master.
    pub(super) terminal: Option<Arc<AsyncFile>>,
    /// Id of the command, which leads a session and a process group.
    leader: Option<Pid>,
}

/// Why there is no command.
#[derive(Debug)]
pub(super) enum SpawnFailure {
    /// The request makes no sense here.
    Refused(AgentError),
    /// It made sense, but the program cannot be run; clients see this as an exit status.
    Status(i32),
}

impl Process {
    /// Starts what the request says.
    pub(super) fn spawn(request: &ExecRequest) -> Result<Self, SpawnFailure> {
        let [program, arguments @ ..] = request.command.as_slice() else {
            return Err(refuse(ErrorKind::Invalid, "the command is empty".into()));
        };
        if program.is_empty() {
            return Err(SpawnFailure::Status(NOT_FOUND));
        }
        let mut command = Command::new(program);
        command.args(arguments);

        let user = users::user(request.user);
        let home = user.as_ref().map_or("/", |user| user.home.as_str());
        set_environment(&mut command, request, user.as_ref());
        let directory = working_directory(request, home)?;
        let groups = users::groups(user.as_ref().map(|user| user.name.as_str()), request.group);

        let io = if request.terminal {
            Io::terminal(request)
        } else {
            Io::pipes(request.stdin)
        };
        let io = io.map_err(|error| refuse(ErrorKind::Failed, format!("no terminal or pipe: {error}")))?;
        let [stdin, stdout, stderr] = io.ends;
        command.stdin(stdin).stdout(stdout).stderr(stderr);

        let identity = Identity::new(request, groups)?;
        let terminal = request.terminal;
        let prepare = move || {
            default_signals();
            new_session(terminal)?;
            identity.assume()?;
            // SAFETY: the string is valid, and chdir and umask are async-signal-safe.
            unsafe {
                if libc::chdir(directory.as_ptr()) != 0 {
                    return Err(io::Error::last_os_error());
                }
                libc::umask(0o022);
            }
            // Only the three standard streams reach the command, whatever the agent inherited.
            // SAFETY: changes the flags of descriptors only, so the standard library's own pipe, which has the
            // flag already, keeps working; async-signal-safe.
            unsafe {
                libc::syscall(
                    libc::SYS_close_range,
                    3,
                    libc::c_uint::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                )
            };
            Ok(())
        };
        // SAFETY: the closure runs between fork and exec and only makes async-signal-safe system calls; it
        // allocates nothing (errors are plain error numbers).
        unsafe { command.pre_exec(prepare) };

        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn();
        // The command's ends were moved into `command`, which is gone by now: end of file can be seen.
        let child = child.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT | Errno::ENOTDIR) => SpawnFailure::Status(NOT_FOUND),
            Some(Errno::EAGAIN) => refuse(
                ErrorKind::Failed,
                format!(
                    "{program:?} cannot be started: there are as many processes as the instance may have"
                ),
            ),
            Some(Errno::ENOMEM | Errno::EMFILE) => refuse(
                ErrorKind::Failed,
                format!("{program:?} cannot be started: {error}"),
            ),
            None => refuse(
                ErrorKind::Invalid,
                format!("{program:?} cannot be started: {error}"),
            ),
            Some(_) => SpawnFailure::Status(NOT_EXECUTABLE),
        })?;
        let leader = child.id().map(|id| Pid::from_raw(id as i32));
        Ok(Self {
            child,
            input: io.input,
            outputs: io.outputs,
            terminal: io.master,
            leader,
        })
    }

    /// The command's process id while it runs.
    pub(super) fn pid(&self) -> Option<Pid> {
        self.leader
    }

    /// The command has been waited for: its id may belong to somebody else from now on.
    pub(super) fn reaped(&mut self) {
        self.leader = None;
    }

    /// Kills the command and everything in its process group.
    pub(super) fn kill_group(&self) {
        if let Some(leader) = self.leader {
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

fn refuse(kind: ErrorKind, message: String) -> SpawnFailure {
    SpawnFailure::Refused(AgentError { kind, message })
}

/// What the request says, above what a login would set.
fn set_environment(command: &mut Command, request: &ExecRequest, user: Option<&users::User>) {
    command.env_clear();
    command.env("PATH", DEFAULT_PATH).env("LANG", "C.UTF-8");
    command.env("HOME", user.map_or("/", |user| user.home.as_str()));
    if let Some(user) = user {
        command.env("USER", &user.name);
    }
    if request.terminal {
        command.env("TERM", "xterm");
    }
    command.envs(&request.environment);
}

/// The directory asked for must exist; the home directory may be missing.
fn working_directory(request: &ExecRequest, home: &str) -> Result<CString, SpawnFailure> {
    let directory = match request.cwd.as_deref().filter(|cwd| !cwd.is_empty()) {
        Some(cwd) if Path::new(cwd).is_dir() => cwd,
        Some(cwd) => {
            return Err(refuse(
                ErrorKind::NotFound,
                format!("working directory {cwd:?} is no directory"),
            ));
        }
        None if Path::new(home).is_dir() => home,
        None => "/",
    };
    CString::new(directory).map_err(|_| {
        refuse(
            ErrorKind::Invalid,
            format!("working directory {directory:?} has a null byte"),
        )
    })
}

/// User and groups to become.
struct Identity {
    user: u32,
    group: u32,
    groups: Vec<libc::gid_t>,
    /// Without privileges, the agent can only run commands as itself.
    change: bool,
}

impl Identity {
    fn new(request: &ExecRequest, groups: Vec<u32>) -> Result<Self, SpawnFailure> {
        let change = Uid::effective().is_root();
        if !change && request.user != Uid::effective().as_raw() {
            let message = format!(
                "the agent is not root and cannot run commands as user {}",
                request.user
            );
            return Err(refuse(ErrorKind::Permission, message));
        }
        Ok(Self {
            user: request.user,
            group: request.group,
            groups,
            change,
        })
    }

    /// Async-signal-safe.
    fn assume(&self) -> io::Result<()> {
        if !self.change {
            return Ok(());
        }
        let check = |result: libc::c_int| {
            if result == 0 {
                Ok(())
            } else {
                Err(io::Error::last_os_error())
            }
        };
        // SAFETY: plain system calls with a valid array; groups first, while the privilege is still there. The
        // raw setgroups is wanted: the library's one would synchronise threads, which a forked child has not.
        unsafe {
            let groups = libc::syscall(libc::SYS_setgroups, self.groups.len(), self.groups.as_ptr());
            check(groups as libc::c_int)?;
            check(libc::syscall(libc::SYS_setresgid, self.group, self.group, self.group) as libc::c_int)?;
            check(libc::syscall(libc::SYS_setresuid, self.user, self.user, self.user) as libc::c_int)
        }
    }
}

/// Undoes whatever the agent's parent or the agent itself ignores: a shell in the background, for instance,
/// leaves its children deaf to Ctrl-C. Async-signal-safe.
fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: plain system call; it refuses the two signals that always have their default, and those the
        // library keeps for itself, without harm.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Makes the command leader of a session, and its standard input the controlling terminal. Async-signal-safe.
fn new_session(terminal: bool) -> io::Result<()> {
    // SAFETY: plain system calls.
    unsafe {
        if libc::setsid() < 0 || (terminal && libc::ioctl(0, libc::TIOCSCTTY, 0) < 0) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Both sides of the command's standard streams.
struct Io {
    ends: [Stdio; 3],
    input: Option<Arc<AsyncFile>>,
    outputs: Vec<Output>,
    master: Option<Arc<AsyncFile>>,
}

impl Io {
    fn pipes(with_input: bool) -> io::Result<Self> {
        let (stdin, input) = if with_input {
            let (theirs, ours) = pipe2(OFlag::O_CLOEXEC)?;
            (Stdio::from(theirs), Some(Arc::new(AsyncFile::new(ours)?)))
        } else {
            (Stdio::null(), None)
        };
        let (stdout_ours, stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_ours, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let outputs: Vec<Output> = vec![
            (Arc::new(AsyncFile::new(stdout_ours)?), Frame::Stdout),
            (Arc::new(AsyncFile::new(stderr_ours)?), Frame::Stderr),
        ];
        Ok(Self {
            ends: [stdin, stdout.into(), stderr.into()],
            input,
            outputs,
            master: None,
        })
    }

    fn terminal(request: &ExecRequest) -> io::Result<Self> {
        let (master, slave) = open_terminal()?;
        // As grantpt(3) would: the user owns it, the group "tty" may write to it.
        let group = users::group_id("tty").unwrap_or(5);
        if Uid::effective().is_root() {
            // A user namespace may not map the group, and then the terminal works all the same.
            let _ = fchown(
                &slave,
                Some(Uid::from_raw(request.user)),
                Some(Gid::from_raw(group)),
            )
            .or_else(|_| fchown(&slave, Some(Uid::from_raw(request.user)), None));
        }
        let master = Arc::new(AsyncFile::new(master)?);
        resize(&master, request.width, request.height)?;
        let ends = [slave.try_clone()?.into(), slave.try_clone()?.into(), slave.into()];
        Ok(Self {
            ends,
            input: request.stdin.then(|| Arc::clone(&master)),
            outputs: vec![(Arc::clone(&master), Frame::Stdout)],
            master: Some(master),
        })
    }
}

/// A new terminal of the file system's own `devpts` instance.
fn open_terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let open = |path: &str| {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
    };
    let master = open("/dev/ptmx").or_else(|_| open("/dev/pts/ptmx"))?;
    let unlocked: libc::c_int = 0;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the descriptor is a terminal's master; TIOCSPTLCK reads an int, TIOCGPTPEER takes flags by value
    // (ioctl_tty(2)) and returns a new descriptor, which nobody else owns.
    unsafe {
        if libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) < 0 {
            return Err(io::Error::last_os_error());
        }
        let slave = libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags);
        if slave < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok((master, OwnedFd::from_raw_fd(slave)))
    }
}

/// Gives the terminal a size; zeroes leave it alone.
pub(super) fn resize(terminal: &impl AsFd, width: u16, height: u16) -> io::Result<()> {
    if width == 0 || height == 0 {
        return Ok(());
    }
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads a winsize.
    match unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
