//! System calls that the standard library and `nix` do not have, as functions that own their file descriptors.

pub(crate) mod mount;
pub(crate) mod process;

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// The result of a system call that returns a file descriptor.
pub(crate) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

/// The result of a system call that returns 0.
pub(crate) fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A C string; text with a zero byte is an invalid argument, as the kernel would say of a path that does not exist.
pub(crate) fn c_string(text: impl AsRef<[u8]>) -> io::Result<CString> {
    CString::new(text.as_ref()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
