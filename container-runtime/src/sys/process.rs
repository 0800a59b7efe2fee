//! Making processes in new namespaces, watching them by pidfd, and passing messages with descriptors between them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use super::{done, owned};

/// `CLONE_NEWTIME`, which libc has for musl only.
pub(crate) const CLONE_NEWTIME: i32 = 0x80;

/// `CLONE_INTO_CGROUP` of clone3(2); libc's constant does not fit its type on every target.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of [`clone_process`] this is.
pub(crate) enum Clone {
    /// The caller: the new process, and a descriptor that stands for it.
    Parent(i32, OwnedFd),
    /// The new process.
    Child,
}

/// fork(2) into new namespaces, and where given straight into a cgroup of the unified hierarchy (clone3(2)).
///
/// # Safety
/// The caller has no other thread: the child goes on with a copy of this memory in which their locks would stay locked.
pub(crate) unsafe fn clone_process(namespaces: i32, cgroup: Option<&OwnedFd>) -> io::Result<Clone> {
    let mut pidfd: i32 = -1;
    // SAFETY: `clone_args` consists of integers, for which zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces as u64 | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is valid and of the given size; without CLONE_VM and a stack this is a fork, which the caller may do.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut args),
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Clone::Child),
        // SAFETY: CLONE_PIDFD has stored a new descriptor there.
        pid => Ok(Clone::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// A descriptor that stands for a process; readable when it has ended.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Signals exactly that process, even if its pid has been given to another since.
pub(crate) fn pidfd_kill(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: plain integers and a null siginfo.
    done(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<u8>(),
            0,
        )
    })
}

/// Enters namespaces: those of a process (a pidfd with flags) or one (its file with its flag or 0).
pub(crate) fn enter(fd: impl AsFd, namespaces: i32) -> io::Result<()> {
    // SAFETY: plain integers.
    done(unsafe { libc::setns(fd.as_fd().as_raw_fd(), namespaces) }.into())
}

/// New namespaces for this process.
pub(crate) fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: plain integer.
    done(unsafe { libc::unshare(namespaces) }.into())
}

/// Descriptors from `first` on are closed at exec.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only marks descriptors.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Sends one message and perhaps a descriptor over a seqpacket socket.
pub(crate) fn send(socket: impl AsFd, message: &[u8], fd: Option<&OwnedFd>) -> io::Result<()> {
    let raw: Vec<i32> = fd.iter().map(|fd| fd.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &control };
    sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(message)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message of at most 4096 bytes and the descriptor in it; empty at the end of the stream.
pub(crate) fn receive(socket: impl AsFd) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut buffer = vec![0; 4096];
    let mut space = cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let answer = loop {
        match recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            answer => break answer?,
        }
    };
    let mut received = None;
    for message in answer.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                // SAFETY: the kernel has just installed this descriptor for us.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    let length = answer.bytes;
    buffer.truncate(length);
    Ok((buffer, received))
}
