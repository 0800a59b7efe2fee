//! The file behind shared guest memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;

/// What other processes see as the file's name in `/proc`.
const NAME: &std::ffi::CStr = c"guest-memory";

/// Makes a file of memory without a name. Whoever gets its descriptor cannot make it shorter, which would fault this
/// process, nor longer.
pub(super) fn memory_file(bytes: u64) -> io::Result<Arc<File>> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag that makes the file non-executable; hosts may insist on it since.
    let file = match create(flags | libc::MFD_NOEXEC_SEAL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => create(flags)?,
        made => made?,
    };
    file.set_len(bytes)?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: the descriptor is open and the call touches no memory of ours.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        0 => Ok(Arc::new(file)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn create(flags: libc::c_uint) -> io::Result<File> {
    // SAFETY: the name is a C string that outlives the call.
    match unsafe { libc::memfd_create(NAME.as_ptr(), flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the descriptor is fresh and nobody else has it.
        fd => Ok(unsafe { File::from_raw_fd(fd) }),
    }
}
