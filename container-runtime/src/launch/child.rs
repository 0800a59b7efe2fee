//! Making a container: the part that runs inside of it, from the fork to the exec of its first process.
//!
//! Everything the host must contribute is open already; after the root has been pivoted nothing of the host can be reached.
//! Failures travel to the parent as text.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use super::{HostTrees, Plan, ProcessPlan, message};
use crate::rootfs::{self, lookup::RootDir};
use crate::sys::mount::{attach, isolate, pivot};
use crate::sys::{c_string, done, process};
use crate::{Error, Result};

/// Exit status of a first process that could not be executed; shells say 127 for "not found", 126 for "not executable".
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;
const SET_UP_FAILED: i32 = 125;

/// Runs in the new process and never returns.
pub(super) fn run(plan: &Plan, trees: &HostTrees, sync: &OwnedFd) -> ! {
    let status = match set_up(plan, trees, sync) {
        Ok(()) => execute(plan, sync),
        Err(error) => {
            report(sync, &error);
            SET_UP_FAILED
        }
    };
    // SAFETY: ends this process without running the parent's exit handlers in it.
    unsafe { libc::_exit(status) }
}

fn report(sync: &OwnedFd, error: &Error) {
    let mut text = vec![message::ERROR];
    text.extend_from_slice(error.chain().as_bytes());
    text.truncate(4096);
    // When nobody listens any more, there is nobody to tell.
    drop(process::send(sync, &text, None));
}

/// Waits for one message; the end of the stream means that the parent is dead.
fn wait_for(sync: &OwnedFd, what: u8) -> Result<()> {
    let (bytes, _) = process::receive(sync).map_err(|e| Error::system("hear from the monitor", e))?;
    if bytes.first() == Some(&what) {
        Ok(())
    } else {
        Err(Error::Child("the monitor is gone".to_owned()))
    }
}

/// Namespaces, mounts, devices and the terminal.
fn set_up(plan: &Plan, trees: &HostTrees, sync: &OwnedFd) -> Result<()> {
    wait_for(sync, message::GO)?;
    let step = |what: &'static str| move |e: io::Error| Error::system(what, e);
    for (kind, path) in &plan.joined {
        let file = fs::File::open(path).map_err(|e| Error::file("open", path, e))?;
        process::enter(file, *kind).map_err(|e| Error::file("enter", path, e))?;
    }
    if plan.namespaces & libc::CLONE_NEWCGROUP != 0 {
        process::unshare(libc::CLONE_NEWCGROUP).map_err(step("make the cgroup namespace"))?;
    }
    if plan.namespaces & process::CLONE_NEWTIME != 0 {
        new_clocks(plan.clocks_at_zero)?;
    }
    // A key ring of its own; without it the container would possess the host root's. Kernels without key rings say ENOSYS.
    // SAFETY: a null name asks for a new anonymous session key ring.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<u8>(),
        )
    };
    isolate().map_err(step("isolate the mount namespace"))?;
    // Where the new root is attached: any directory does, and this one is certain to exist. Opened with the host's user id,
    // which may search directories that the container's may not.
    let anchor = RootDir::open(&plan.rootfs).map_err(|e| Error::file("open", &plan.rootfs, e))?;
    if plan.namespaces & libc::CLONE_NEWUSER != 0 {
        become_user(0, 0, &[]).map_err(step("become the container's root"))?;
    }
    if plan.dies_with_parent {
        die_with_parent().map_err(step("ask for a death signal"))?;
    }
    if let Some(name) = &plan.hostname {
        nix::unistd::sethostname(name)
            .map_err(|e| Error::system(format!("set the host name {name:?}"), e))?;
    }
    if plan.namespaces & libc::CLONE_NEWNET != 0 {
        raise_loopback().map_err(step("bring up the loopback interface"))?;
    }
    // SAFETY: sets a number.
    unsafe { libc::umask(0) };
    // New file systems are made while the host's are still in view: the kernel lets a user namespace mount proc and sysfs only
    // where it sees a whole one already (`mount_too_revealing`).
    let made = rootfs::mounts::make_new(&plan.mounts)?;
    attach(&trees.root, anchor.fd()).map_err(step("attach the root"))?;
    pivot(&trees.root).map_err(step("pivot to the root"))?;
    let root = RootDir::open(Path::new("/")).map_err(step("open the root"))?;
    let terminal = rootfs::furnish(plan, &root, made, &trees.mounts, &trees.devices)?;
    // SAFETY: sets a number.
    unsafe { libc::umask(plan.process.umask.unwrap_or(0o022)) };
    // SAFETY: makes this process a session leader; it fails harmlessly if it is one.
    unsafe { libc::setsid() };
    if let Some(terminal) = &terminal {
        // Now, so that a held process does not hold the files of whoever made it.
        use_terminal(&terminal.slave).map_err(step("take the console"))?;
    }
    process::send(sync, &[message::READY], terminal.as_ref().map(|t| &t.master)).map_err(step("report"))
}

/// The exit status for the case that it comes back.
fn execute(plan: &Plan, sync: &OwnedFd) -> i32 {
    let Some(listener) = &plan.start_listener else {
        return wait_for(sync, message::START).map_or(SET_UP_FAILED, |()| become_program(plan, sync));
    };
    // The creator has gone; whoever connects says start. It sees the end of the stream at exec, or why there is none.
    match listener.accept() {
        Ok((starter, _)) => become_program(plan, &OwnedFd::from(starter)),
        Err(_) => SET_UP_FAILED,
    }
}

fn become_program(plan: &Plan, listener: &OwnedFd) -> i32 {
    match prepare(plan) {
        Err(error) => {
            report(listener, &error);
            SET_UP_FAILED
        }
        Ok((arguments, environment)) => {
            let source = exec(&arguments, &environment);
            let status = if source.raw_os_error() == Some(libc::ENOENT) {
                NOT_FOUND
            } else {
                NOT_EXECUTABLE
            };
            let program = plan
                .process
                .arguments
                .first()
                .map(String::as_str)
                .unwrap_or_default();
            report(listener, &Error::system(format!("execute {program:?}"), source));
            status
        }
    }
}

/// Signals, credentials, capabilities and filter of the first process.
fn prepare(plan: &Plan) -> Result<(Vec<CString>, Vec<CString>)> {
    let step = |what: &'static str| move |e: io::Error| Error::system(what, e);
    let process = &plan.process;
    let invalid = |_| Error::spec("init", "zero byte");
    let strings = |list: &[String]| list.iter().map(c_string).collect::<io::Result<Vec<CString>>>();
    let (arguments, environment) = (
        strings(&process.arguments).map_err(invalid)?,
        strings(&process.environment).map_err(invalid)?,
    );
    reset_signals().map_err(step("reset signals"))?;
    process::close_on_exec_from(3).map_err(step("mark descriptors"))?;
    if let Some((program, flags)) = process.seccomp.as_ref().filter(|_| !process.no_new_privs) {
        // Without no_new_privs this takes a capability that is about to go.
        crate::seccomp::install(program, *flags).map_err(step("install the system call filter"))?;
    }
    if let Some(sets) = &process.capabilities {
        sets.bound()
            .map_err(|e| Error::system("bound capabilities", io::Error::from_raw_os_error(e.code())))?;
    }
    switch_user(process, plan)?;
    if plan.dies_with_parent {
        // A change of user clears it (PR_SET_PDEATHSIG in prctl(2)).
        die_with_parent().map_err(step("ask for a death signal"))?;
    }
    if process.no_new_privs {
        nix::sys::prctl::set_no_new_privs().map_err(|e| Error::system("set no_new_privs", e))?;
        if let Some((program, flags)) = &process.seccomp {
            crate::seccomp::install(program, *flags).map_err(step("install the system call filter"))?;
        }
    }
    Ok((arguments, environment))
}

fn switch_user(process: &ProcessPlan, plan: &Plan) -> Result<()> {
    let named = |e: io::Error| Error::system(format!("become user {}:{}", process.user, process.group), e);
    let enter = || std::env::set_current_dir(&process.cwd);
    // Perhaps only root may enter it, perhaps only the user (a home on a network file system).
    let entered = enter();
    if process.user != 0
        || process.group != 0
        || !process.groups.is_empty()
        || plan.namespaces & libc::CLONE_NEWUSER == 0
    {
        if process.capabilities.is_some() {
            nix::sys::prctl::set_keepcaps(true).map_err(|e| named(e.into()))?;
        }
        become_user(process.user, process.group, &process.groups).map_err(named)?;
    }
    if let Some(sets) = &process.capabilities {
        sets.apply()
            .map_err(|e| Error::system("set capabilities", io::Error::from_raw_os_error(e.code())))?;
    }
    if entered.is_err() {
        enter().map_err(|e| Error::file("enter", &process.cwd, e))?;
    }
    Ok(())
}

/// execvpe(3): searches the container's own PATH.
fn exec(arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        list.iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect::<Vec<*const libc::c_char>>()
    };
    let (argv, envp) = (pointers(arguments), pointers(environment));
    let Some(program) = arguments.first() else {
        return io::Error::from_raw_os_error(libc::EINVAL);
    };
    if let Some(path) = environment
        .iter()
        .find(|text| text.as_bytes().starts_with(b"PATH="))
    {
        // execvpe searches the PATH of the calling process, which is the host's.
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("PATH", String::from_utf8_lossy(&path.as_bytes()[5..]).as_ref()) };
    }
    // SAFETY: both arrays are null-terminated and consist of valid C strings.
    unsafe { libc::execvpe(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

fn become_user(user: u32, group: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer is valid for `groups.len()` elements; the others take numbers. The raw calls, because libc's would
    // signal other threads.
    unsafe {
        done(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        done(libc::syscall(libc::SYS_setresgid, group, group, group))?;
        done(libc::syscall(libc::SYS_setresuid, user, user, user))
    }
}

fn die_with_parent() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(io::Error::from)
}

/// Rust ignores SIGPIPE and the monitor blocks what it reads from a signalfd; both would be inherited.
fn reset_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // SAFETY: only sets the default action; refused for SIGKILL, SIGSTOP and libc's own, which are at it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(io::Error::from)
}

fn use_terminal(console: &OwnedFd) -> io::Result<()> {
    let fd = console.as_raw_fd();
    // SAFETY: open descriptors and plain numbers.
    unsafe {
        done(libc::ioctl(fd, libc::TIOCSCTTY, 0).into())?;
        for standard in 0..3 {
            done(libc::dup2(fd, standard).into())?;
        }
    }
    Ok(())
}

/// A time namespace whose monotonic and boot-time clocks are moved back to zero (time_namespaces(7)). Offsets can be set only
/// until the first process is in it, so this one enters last.
fn new_clocks(at_zero: bool) -> Result<()> {
    let step = |what: &'static str| move |e: io::Error| Error::system(what, e);
    process::unshare(process::CLONE_NEWTIME).map_err(step("make the time namespace"))?;
    if at_zero {
        let seconds = |clock| {
            nix::time::clock_gettime(clock)
                .map(|t| t.tv_sec())
                .map_err(|e| Error::system("read a clock", e))
        };
        let (monotonic, boot) = (
            seconds(nix::time::ClockId::CLOCK_MONOTONIC)?,
            seconds(nix::time::ClockId::CLOCK_BOOTTIME)?,
        );
        let path = "/proc/self/timens_offsets";
        fs::write(path, format!("monotonic -{monotonic} 0\nboottime -{boot} 0\n"))
            .map_err(|e| Error::file("write", path, e))?;
    }
    let path = "/proc/self/ns/time_for_children";
    let file = fs::File::open(path).map_err(|e| Error::file("open", path, e))?;
    process::enter(file, process::CLONE_NEWTIME).map_err(step("enter the time namespace"))
}

fn raise_loopback() -> io::Result<()> {
    // SAFETY: plain numbers.
    let socket = crate::sys::owned(
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into(),
    )?;
    // SAFETY: `ifreq` is valid when zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a whole `ifreq`.
    done(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())
}
