//! The host's side of a block device: an open raw file or host block device, and plain system calls on it.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

/// Bytes per sector, always 512 in virtio (virtio 1.3 §5.2.5).
pub const SECTOR: u64 = 512;

/// Bytes written at once where zeroes have to be written out.
static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    file: File,
    size: u64,
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

impl Disk {
    /// Takes over an open file. Its size now is the disk's size, without a last part of a sector.
    pub fn new(mut file: File) -> io::Result<Self> {
        // Seeking also tells the size of block devices, whose metadata says zero.
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self {
            file,
            size: size - size % SECTOR,
        })
    }

    /// Number of bytes, a multiple of [`SECTOR`].
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
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
        let offset = i64::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let count = i32::try_from(iovecs.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: the vector is valid for `count` entries; the caller vouches for the memory they name.
        let done = unsafe {
            match write {
                true => {
                    let flags = if durable { libc::RWF_DSYNC } else { 0 };
                    libc::pwritev2(self.fd(), iovecs.as_ptr(), count, offset, flags)
                }
                false => libc::preadv(self.fd(), iovecs.as_ptr(), count, offset),
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
        match unsafe { libc::fallocate(self.fd(), erase.mode(), start, len) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What to do where the file system cannot erase: a discard is a hint, zeroes are written out.
    pub fn erase_by_hand(&self, erase: Erase, bytes: &Range<u64>) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        if erase == Erase::Discard {
            return Ok(());
        }
        let mut at = bytes.start;
        while at < bytes.end {
            let len = (bytes.end - at).min(ZEROES.len() as u64);
            self.file
                .write_all_at(ZEROES.get(..len as usize).unwrap_or_default(), at)?;
            at += len;
        }
        Ok(())
    }
}

/// Whether an error of `fallocate` says that the file system cannot do it, rather than that it went wrong.
pub fn cannot_erase(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENODEV)
    )
}
