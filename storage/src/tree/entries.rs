//! Listing an open directory by its descriptor.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// An entry of a directory.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: CString,
    /// Its `DT_` type, as far as the file system tells.
    pub(super) kind: u8,
}

/// Size of the fixed part of `struct linux_dirent64`, getdents64(2): inode, offset, record length, type.
const HEADER: usize = 19;

/// Reads all entries of a directory but `.` and `..`. The descriptor must be at its start.
pub(super) fn read_entries(dir: impl AsFd) -> nix::Result<Vec<Entry>> {
    let fd = dir.as_fd().as_raw_fd();
    let mut entries = Vec::new();
    let mut buffer = vec![0u8; 32 << 10];
    loop {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer, which lives through the call.
        let got = unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) };
        let got = Errno::result(got)? as usize;
        if got == 0 {
            return Ok(entries);
        }
        let mut rest = &buffer[..got];
        while rest.len() > HEADER {
            let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let Some(name) = rest
                .get(HEADER..length)
                .and_then(|name| CStr::from_bytes_until_nul(name).ok())
            else {
                return Err(Errno::EIO);
            };
            if name != c"." && name != c".." {
                entries.push(Entry {
                    name: name.to_owned(),
                    kind: rest[18],
                });
            }
            rest = &rest[length..];
        }
    }
}
