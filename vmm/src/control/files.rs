//! Descriptors that come with a request (`SCM_RIGHTS`, unix(7)).
//!
//! The process can open nothing by itself once it runs, so whoever asks for a new device passes what it stands on; the
//! document names the descriptors in the order in which they were sent: `"fd:0"` is the first.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Descriptors with one request. A network interface of 8 queue pairs has as many.
pub const MAX_FILES: usize = 16;

/// Descriptors of one request; those that nobody takes are closed with it.
#[derive(Debug, Default)]
pub struct Files(Vec<Option<OwnedFd>>);

impl Files {
    /// Whether none came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the descriptor with this number, counted from 0. Each can be taken once.
    pub fn take(&mut self, number: usize) -> Option<OwnedFd> {
        self.0.get_mut(number)?.take()
    }

    /// Takes all that are left, in order.
    pub fn take_all(&mut self) -> impl Iterator<Item = OwnedFd> {
        std::mem::take(&mut self.0).into_iter().flatten()
    }

    /// Reads from a stream, keeping the descriptors that come along. `InvalidData` means that there are too many.
    pub fn read(&mut self, stream: &UnixStream, bytes: &mut [u8]) -> io::Result<usize> {
        let mut numbers: [RawFd; MAX_FILES] = [-1; MAX_FILES];
        let mut buffer = [libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        }];
        // SAFETY: the vector names a buffer that is ours for the call.
        let received = unsafe { stream.recv_with_fds(&mut buffer, &mut numbers) };
        let too_many = || io::Error::new(io::ErrorKind::InvalidData, "too many descriptors");
        let (len, count) = match received {
            Ok(received) => received,
            // The kernel had more than fit, and all have been closed.
            Err(error) if error.errno() == libc::ENOBUFS => return Err(too_many()),
            Err(error) => return Err(error.into()),
        };
        for number in numbers.into_iter().take(count) {
            // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
            self.0.push(Some(unsafe { OwnedFd::from_raw_fd(number) }));
        }
        if self.0.len() > MAX_FILES {
            return Err(too_many());
        }
        Ok(len)
    }
}

impl FromIterator<OwnedFd> for Files {
    fn from_iter<T: IntoIterator<Item = OwnedFd>>(files: T) -> Self {
        Self(files.into_iter().map(Some).collect())
    }
}
