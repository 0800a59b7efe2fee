//! An open host file or block device that a disk stands on, and plain system calls on it.
//!
//! With direct I/O there are two descriptors for it: one past the host's page cache for requests that are aligned as
//! its file system needs it, and an ordinary one for the rest and for an image's tables. The kernel keeps the two
//! consistent, so nothing has to be copied to aligned memory.

use super::qcow2::Storage;
use super::request::SECTOR;
use std::fs::{File, Metadata};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, FileTypeExt};

/// Zeroes to be written out, as many as are at once.
pub(super) static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Alignments that direct I/O may need, in the order in which they are tried.
const ALIGNMENTS: [u64; 2] = [SECTOR, 4096];

/// An open file.
#[derive(Debug)]
pub struct HostFile {
    file: File,
    direct: Option<Direct>,
    is_device: bool,
}

#[derive(Debug)]
struct Direct {
    file: File,
    /// Offsets, lengths and addresses are multiples of this.
    align: u64,
}

/// What to do with a range of bytes that shall be zero or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erase {
    /// The contents may be anything afterwards.
    Discard,
    /// The bytes read as zero afterwards and the space may be given back.
    ZeroUnmap,
    /// The bytes read as zero afterwards and the space stays reserved.
    Zero,
}

impl Erase {
    /// The mode for `fallocate`. A hole reads as zero, so it serves discards, too.
    pub fn mode(self) -> i32 {
        match self {
            Erase::Discard | Erase::ZeroUnmap => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
            Erase::Zero => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
        }
    }
}

impl HostFile {
    /// Takes over an open file.
    pub fn new(file: File) -> io::Result<Self> {
        let is_device = file.metadata()?.file_type().is_block_device();
        Ok(Self {
            file,
            direct: None,
            is_device,
        })
    }

    /// Takes over a file that was opened twice, the second time with `O_DIRECT`. Fails where the file system has that
    /// flag but no way to follow it.
    pub fn with_direct(file: File, direct: File) -> io::Result<Self> {
        let align = ALIGNMENTS
            .into_iter()
            .find(|align| can_read_aligned(&direct, *align));
        let problem = "its file system cannot read past the host's page cache; leave `direct` out";
        let align = align.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, problem))?;
        Ok(Self {
            direct: Some(Direct { file: direct, align }),
            ..Self::new(file)?
        })
    }

    /// What the file system says of it.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Number of bytes now.
    pub fn size(&self) -> io::Result<u64> {
        // Seeking also tells the size of block devices, whose metadata says zero.
        (&self.file).seek(SeekFrom::End(0))
    }

    /// Makes a regular file longer.
    pub fn grow(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    /// What all requests should be aligned to: a power of two, [`SECTOR`] at least.
    pub fn align(&self) -> u64 {
        self.direct.as_ref().map_or(SECTOR, |direct| direct.align)
    }

    /// The ordinary descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// The descriptor for a transfer.
    pub fn fd_for(&self, iovecs: &[libc::iovec], offset: u64) -> RawFd {
        let Some(direct) = &self.direct else {
            return self.fd();
        };
        let align = direct.align as usize;
        let aligned = offset.is_multiple_of(direct.align)
            && iovecs.iter().all(|vector| {
                vector.iov_len.is_multiple_of(align) && (vector.iov_base as usize).is_multiple_of(align)
            });
        if aligned {
            direct.file.as_raw_fd()
        } else {
            self.fd()
        }
    }

    /// Reads to, or writes from, memory that `iovecs` name. Returns the number of bytes.
    ///
    /// # Safety
    ///
    /// The memory must stay mapped and be writable (for reads) during the call. Others may change it meanwhile.
    pub unsafe fn transfer(
        &self,
        write: bool,
        iovecs: &[libc::iovec],
        offset: u64,
        durable: bool,
    ) -> io::Result<usize> {
        let fd = self.fd_for(iovecs, offset);
        let offset = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let count = i32::try_from(iovecs.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the vector is valid for `count` entries; the caller vouches for the memory they name.
        let done = unsafe {
            match write {
                true => {
                    let flags = if durable { libc::RWF_DSYNC } else { 0 };
                    libc::pwritev2(fd, iovecs.as_ptr(), count, offset, flags)
                }
                false => libc::preadv(fd, iovecs.as_ptr(), count, offset),
            }
        };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Erases a range by the file system.
    pub fn erase(&self, erase: Erase, bytes: &Range<u64>) -> io::Result<()> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let start = i64::try_from(bytes.start).map_err(invalid)?;
        let len = i64::try_from(bytes.end - bytes.start).map_err(invalid)?;
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the call has no pointers.
        match unsafe { libc::fallocate(self.file.as_raw_fd(), erase.mode(), start, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Where the file system cannot erase, a discard is a hint, for which block devices have a call of their own:
    /// `fallocate` only discards on those that return zeroes afterwards.
    pub fn discard_by_hand(&self, bytes: &Range<u64>) {
        // BLKDISCARD, `_IO(0x12, 119)`.
        const REQUEST: libc::c_ulong = 0x1277;
        if !self.is_device {
            return;
        }
        let range = [bytes.start, bytes.end - bytes.start];
        // SAFETY: the request reads two numbers of 64 bits.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), REQUEST as _, range.as_ptr()) } != 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "disk cannot discard");
        }
    }
}

impl Storage for HostFile {
    fn read_at(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<usize> {
        let wanted = bytes.len();
        while !bytes.is_empty() {
            match self.file.read_at(bytes, offset) {
                Ok(0) => break,
                Ok(len) => {
                    bytes = bytes.get_mut(len..).unwrap_or_default();
                    offset += len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(wanted - bytes.len())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.flush()
    }

    fn size(&self) -> io::Result<u64> {
        HostFile::size(self)
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        HostFile::grow(self, len)
    }

    fn punch(&self, bytes: Range<u64>) -> io::Result<()> {
        self.erase(Erase::ZeroUnmap, &bytes)
    }
}

/// Whether an error of `fallocate` says that the file system cannot do it, rather than that it went wrong.
pub(super) fn cannot_erase(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENODEV)
    )
}

/// Whether a direct read works with this alignment and none greater.
fn can_read_aligned(direct: &File, align: u64) -> bool {
    let align = align as usize;
    let mut buffer = vec![0u8; 5 * 4096];
    // An address that is a multiple of `align`, but not of twice as much.
    let start = buffer.as_ptr().align_offset(2 * 4096).saturating_add(align);
    let buffer = buffer.get_mut(start..start.saturating_add(align));
    buffer.is_some_and(|buffer| direct.read_at(buffer, 0).is_ok())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
