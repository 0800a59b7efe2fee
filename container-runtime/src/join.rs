//! Entering a running container: its control groups, all of its namespaces, its user, and then its limits on privilege, so that
//! what is executed from there has no more rights than what init starts.
//!
//! The container is hostile to whoever enters. The process is not dumpable from the moment it is visible inside, so nobody there
//! can trace it or look through its `/proc/PID`; descriptors of the host are closed before; nothing of the image is loaded.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::caps::CapabilitySets;
use crate::cgroup::Cgroup;
use crate::spec::ContainerSpec;
use crate::state::ContainerFile;
use crate::sys::process::{CLONE_NEWTIME, close_on_exec_from, enter, pidfd_open};
use crate::sys::{done, owned};
use crate::{Error, Result, process, run_dir, seccomp};

/// All kinds, with their names below `/proc/PID/ns`.
const NAMESPACES: &[(&str, i32)] = &[
    ("user", libc::CLONE_NEWUSER),
    ("mnt", libc::CLONE_NEWNS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("time", CLONE_NEWTIME),
];

/// Tells the copy of this program that runs from memory that it is one.
const SEALED: &str = "VIRGA_RUN_SEALED";

/// Which side of [`join`] this is.
pub(crate) enum Joined {
    /// The process inside; goes on with the work.
    Inside,
    /// The process that waited for it; the exit status to end with.
    Waited(i32),
}

/// Moves this single-threaded process into the container of a run directory. Standard input stays open, all other descriptors
/// are closed.
pub(crate) fn join(dir: &Path) -> Result<Joined> {
    let spec = ContainerSpec::read(&dir.join(run_dir::SPEC))?;
    if spec.idmap.is_none() {
        run_from_memory()?;
    }
    let container: ContainerFile = run_dir::read_document(dir, run_dir::CONTAINER)?.ok_or_else(|| {
        Error::file(
            "read",
            dir.join(run_dir::CONTAINER),
            io::Error::from_raw_os_error(libc::ENOENT),
        )
    })?;
    let pid = container.init_pid;
    let gone = || {
        Error::system(
            "join the container: it has ended",
            io::Error::from_raw_os_error(libc::ESRCH),
        )
    };
    let init = pidfd_open(pid).map_err(|_| gone())?;
    // Checked after the open: from here on the descriptor cannot mean another process.
    if process::start_time(pid) != Some(container.init_start_time) {
        return Err(gone());
    }
    let namespaces = foreign_namespaces(pid)?;
    let cgroup = Cgroup::named(&container.cgroup, true)?;
    if cgroup.is_frozen() {
        return Err(Error::system(
            "join the container: it is frozen",
            io::Error::from_raw_os_error(libc::EBUSY),
        ));
    }
    cgroup.add(std::process::id() as i32, true)?;
    // From inside, the control groups are out of sight.
    let most = cgroup.metrics().pids_limit;
    nix::sys::prctl::set_dumpable(false).map_err(|e| Error::system("protect this process", e))?;
    enter(&init, namespaces).map_err(|e| Error::system("enter the container's namespaces", e))?;
    drop(init);
    become_root().map_err(|e| Error::system("become the container's root", e))?;
    // Only children are in the pid namespace.
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(cannot_fork(most, io::Error::last_os_error())),
        0 => {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
                .map_err(|e| Error::system("ask for a death signal", e))?;
            confine(&spec)?;
            Ok(Joined::Inside)
        }
        child => {
            // The connection belongs to the child: its end must be seen.
            drop(replace_stdin());
            wait_for(child).map(Joined::Waited)
        }
    }
}

fn cannot_fork(most: Option<u64>, error: io::Error) -> Error {
    let action = match most {
        Some(most) if error.raw_os_error() == Some(libc::EAGAIN) => format!(
            "start a process in the container, which may have {most} and has as many: end some, or raise its limit (limits.processes)"
        ),
        _ => "start a process in the container".to_owned(),
    };
    Error::system(action, error)
}

/// The namespaces of that process that this one is not in: entering one's own user namespace is an error (setns(2)).
fn foreign_namespaces(pid: i32) -> Result<i32> {
    let mut flags = 0;
    for (name, flag) in NAMESPACES {
        let inode = |process: &str| fs::metadata(format!("/proc/{process}/ns/{name}")).map(|data| data.ino());
        match (inode("self"), inode(&pid.to_string())) {
            (Ok(ours), Ok(theirs)) if ours == theirs => {}
            (Ok(_), Ok(_)) => flags |= flag,
            // A kernel without this kind.
            (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {}
            (Err(source), _) | (_, Err(source)) => {
                return Err(Error::system(
                    format!("look at the {name} namespace of process {pid}"),
                    source,
                ));
            }
        }
    }
    Ok(flags)
}

/// The same rights as init's.
fn confine(spec: &ContainerSpec) -> Result<()> {
    close_on_exec_from(3).map_err(|e| Error::system("mark descriptors", e))?;
    if spec.no_new_privs {
        nix::sys::prctl::set_no_new_privs().map_err(|e| Error::system("set no_new_privs", e))?;
    }
    if spec.seccomp {
        seccomp::install(&seccomp::default::program(spec.nesting), 0)
            .map_err(|e| Error::system("install the system call filter", e))?;
    }
    let sets = CapabilitySets::system(spec.idmap.is_none(), &spec.drop_capabilities)?;
    sets.bound()
        .and_then(|()| sets.apply())
        .map_err(|e| Error::system("set capabilities", io::Error::from_raw_os_error(e.code())))
}

fn become_root() -> io::Result<()> {
    // SAFETY: no groups, plain numbers; raw calls because there is only this thread.
    unsafe {
        done(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()))?;
        done(libc::syscall(libc::SYS_setresgid, 0, 0, 0))?;
        done(libc::syscall(libc::SYS_setresuid, 0, 0, 0))?;
        done(libc::setsid().into()).or(Ok(()))
    }
}

/// Takes what is at descriptor 0 and puts `/dev/null` there.
pub(crate) fn replace_stdin() -> io::Result<OwnedFd> {
    let null = fs::File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: descriptor 0 was opened by whoever started this process; the copy is ours.
    let connection = owned(unsafe { libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3) }.into())?;
    // SAFETY: both are open.
    done(unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), 0) }.into())?;
    Ok(connection)
}

fn wait_for(child: i32) -> Result<i32> {
    use nix::sys::wait::{WaitStatus, waitpid};
    loop {
        match waitpid(nix::unistd::Pid::from_raw(child), None) {
            Ok(WaitStatus::Exited(_, status)) => return Ok(status),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Error::system("wait for the process inside", error)),
        }
    }
}

/// Executes a sealed copy of this program. Root of a container without user namespace is the host's root, and could otherwise write
/// through `/proc/PID/exe` of this process to the program on the host (CVE-2019-5736).
fn run_from_memory() -> Result<()> {
    if std::env::var_os(SEALED).is_some() {
        return Ok(());
    }
    let step = |what: &'static str| move |e: io::Error| Error::system(what, e);
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC | nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING;
    let copy = nix::sys::memfd::memfd_create("virga-run", flags)
        .map_err(|e| Error::system("make a file in memory", e))?;
    let mut program = fs::File::open("/proc/self/exe").map_err(step("open this program"))?;
    let mut target = fs::File::from(copy);
    io::copy(&mut program, &mut target).map_err(step("copy this program"))?;
    let seals = nix::fcntl::SealFlag::F_SEAL_WRITE
        | nix::fcntl::SealFlag::F_SEAL_SHRINK
        | nix::fcntl::SealFlag::F_SEAL_GROW
        | nix::fcntl::SealFlag::F_SEAL_SEAL;
    nix::fcntl::fcntl(&target, nix::fcntl::FcntlArg::F_ADD_SEALS(seals))
        .map_err(|e| Error::system("seal the copy", e))?;
    let arguments: Vec<_> = std::env::args_os().collect();
    use std::os::fd::AsRawFd;
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(format!("/proc/self/fd/{}", target.as_raw_fd()));
    let error = command.args(arguments.iter().skip(1)).env(SEALED, "1").exec();
    Err(Error::system("execute the copy of this program", error))
}
