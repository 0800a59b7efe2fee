//! Host files by path, or by descriptor: wherever the configuration names a file that is opened once, `fd:N` stands for
//! the descriptor N that this process inherited from whoever started it.
//!
//! [`keep`] runs first thing in `main`. It closes everything that was inherited by accident and keeps the rest until
//! someone takes it: each number once, so that no two parts of the VM believe to own the same file. What a descriptor may
//! do is decided by whoever opened it, and checked here, so that a mistake shows at the start and not at the first write.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};

use crate::lock::lock;
use crate::unix_path;

/// What a path begins with that is none.
const PREFIX: &str = "fd:";

/// Inherited descriptors that nobody has taken yet, by number.
static INHERITED: Mutex<BTreeMap<RawFd, OwnedFd>> = Mutex::new(BTreeMap::new());

/// Set once the process has given up what it takes to open anything.
static SEALED: AtomicBool = AtomicBool::new(false);

/// From now on, nothing is opened by path: the process is about to give up what that takes.
pub fn seal() {
    SEALED.store(true, Ordering::Release);
}

/// Whether something can still be opened by its name; the error says what to do instead.
pub fn check_open() -> io::Result<()> {
    if SEALED.load(Ordering::Acquire) {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "a VM that has been built opens nothing by itself any more; pass a descriptor with the request and name it, as fd:0",
        ));
    }
    Ok(())
}

/// The number in `fd:N`; `None` for every other path.
#[must_use]
pub fn number(path: &Path) -> Option<RawFd> {
    path.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// Whether a path is meant to be a descriptor, with a number or something that is none.
#[must_use]
pub fn is_descriptor(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// `path` as seen from `folder`; descriptors are the same everywhere.
#[must_use]
pub fn resolve(folder: &Path, path: &Path) -> PathBuf {
    if is_descriptor(path) {
        path.to_owned()
    } else {
        folder.join(path)
    }
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is read and written.
    ReadWrite,
}

/// Opens a file, or takes the descriptor that stands for it.
pub fn open(path: &Path, access: Access) -> io::Result<File> {
    open_with(path, access, 0)
}

/// The same with more flags of open(2), `O_DIRECT` for one. A descriptor must have been opened with them.
pub fn open_with(path: &Path, access: Access, flags: libc::c_int) -> io::Result<File> {
    if is_descriptor(path) {
        let file = File::from(take(path)?);
        check_access(&file, access, flags)?;
        return Ok(file);
    }
    check_open()?;
    OpenOptions::new()
        .read(true)
        .write(access == Access::ReadWrite)
        .custom_flags(flags | libc::O_CLOEXEC)
        .open(path)
}

/// Listens on a unix socket, or takes one that listens already. It does not block.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    let listener = if is_descriptor(path) {
        let socket = take(path)?;
        if !getsockopt(&socket, sockopt::AcceptConn).is_ok_and(|listens| listens) {
            return Err(wrong(path, "is no socket that listens"));
        }
        UnixListener::from(socket)
    } else {
        check_open()?;
        unix_path::bind(path)?
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to a unix socket, or takes one that is connected already.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    if is_descriptor(path) {
        let stream = UnixStream::from(take(path)?);
        return match stream.peer_addr() {
            Ok(_) => Ok(stream),
            Err(_) => Err(wrong(path, "is no connected unix socket")),
        };
    }
    check_open()?;
    unix_path::connect(path)
}

/// Takes the descriptor that `fd:N` stands for.
fn take(path: &Path) -> io::Result<OwnedFd> {
    number(path)
        .and_then(take_number)
        .ok_or_else(|| wrong(path, "is not open; pass it on to this process"))
}

/// Takes the inherited descriptor with this number; `None` if there is none, or if it has been taken.
#[must_use]
pub fn take_number(number: RawFd) -> Option<OwnedFd> {
    lock(&INHERITED).remove(&number)
}

/// Lets a descriptor that came in later, over a socket, be named by `fd:N`. Returns the N, which no other has had: whoever
/// is late to take one that is closed by now must not get the next.
pub fn offer(descriptor: OwnedFd) -> RawFd {
    /// Higher than any descriptor of a process.
    static NEXT: AtomicI32 = AtomicI32::new(1 << 30);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    insert(number, descriptor);
    number
}

fn insert(number: RawFd, descriptor: OwnedFd) {
    lock(&INHERITED).insert(number, descriptor);
}

fn wrong(path: &Path, problem: &str) -> io::Error {
    let message = format!("descriptor {} {problem}", path.display());
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn check_access(file: &File, access: Access, flags: libc::c_int) -> io::Result<()> {
    let has = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    let may = has & OFlag::O_ACCMODE;
    let refused = |problem: &str| {
        let number = file.as_raw_fd();
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("descriptor {number} {problem}"),
        ))
    };
    if has.contains(OFlag::O_PATH) || may == OFlag::O_WRONLY {
        return refused("is not open for reading");
    }
    if access == Access::ReadWrite && may != OFlag::O_RDWR {
        return refused("is not open for writing; pass one that is, or make the device read-only");
    }
    if !has.contains(OFlag::from_bits_retain(flags)) {
        return refused(&format!("was not opened with the flags {flags:#o}"));
    }
    Ok(())
}

/// Keeps the inherited descriptors with these numbers for [`open`] and its like, and closes all others from 3 on. What is
/// kept is not passed on to other programs.
///
/// # Safety
///
/// No descriptor from 3 on may have an owner in this process: to be called first thing in `main`, once.
pub unsafe fn keep(numbers: &[RawFd]) {
    let mut numbers: Vec<RawFd> = numbers.iter().copied().filter(|number| *number >= 3).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let mut first = 3;
    for number in numbers {
        close_range(first, number.cast_unsigned() - 1);
        first = number.cast_unsigned() + 1;
        // SAFETY: nobody owns the number, as the caller promises; it is only used to ask whether it is open.
        let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        if fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok() {
            // SAFETY: it is open, and nobody owns it, as the caller promises.
            insert(number, unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
    close_range(first, u32::MAX);
}

fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: closes descriptors that have no owner, as the caller of `keep` promises; the call has no pointers.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

#[cfg(test)]
#[path = "host_file_tests.rs"]
mod tests;
