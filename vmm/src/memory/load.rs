//! Brings files into guest memory: mapped copy-on-write where that can be, copied elsewhere.
//!
//! A kernel of 16 MB costs a few microseconds when it is mapped instead of the milliseconds that copying takes, and
//! the pages that no guest writes to are shared by all VMs that boot the same file. The file must not be changed while
//! a VM uses it; replacing it by renaming is fine. Memory that others map by its descriptor is filled by copying:
//! they would not see the file's pages, which are no part of the descriptor.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

use super::{MemoryError, Ram};
use crate::arch::layout::PAGE;

/// How the bytes of a file came into guest memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Mapped copy-on-write.
    pub mapped_bytes: u64,
    /// Copied.
    pub copied_bytes: u64,
}

impl std::ops::AddAssign for Loaded {
    fn add_assign(&mut self, other: Self) {
        self.mapped_bytes += other.mapped_bytes;
        self.copied_bytes += other.copied_bytes;
    }
}

/// Brings `len` bytes at `offset` of `file` to `address` in guest memory.
///
/// Whole pages are mapped where the memory is private and file offset and address are congruent modulo the page size;
/// the rest is copied, so that bytes around the range stay as they are. `file_len` is the file's length: pages beyond it would fault.
pub fn load_file(
    memory: &Ram,
    file: &File,
    file_len: u64,
    offset: u64,
    address: u64,
    len: u64,
) -> Result<Loaded, MemoryError> {
    match offset.checked_add(len) {
        Some(end) if end <= file_len => {}
        end => {
            return Err(MemoryError::Truncated {
                end: end.unwrap_or(u64::MAX),
            });
        }
    }
    if len == 0 {
        return Ok(Loaded::default());
    }
    let Some(end) = address.checked_add(len) else {
        let source = GuestMemoryError::GuestAddressOverflow;
        return Err(MemoryError::Outside { address, len, source });
    };
    let first_page = address.next_multiple_of(PAGE);
    let last_page = end / PAGE * PAGE;
    let mappable = offset % PAGE == address % PAGE && first_page < last_page;
    if !mappable || !is_private(memory, first_page, last_page - first_page) {
        copy(memory, file, offset, address, len)?;
        return Ok(Loaded {
            mapped_bytes: 0,
            copied_bytes: len,
        });
    }
    copy(memory, file, offset, address, first_page - address)?;
    map(
        memory,
        file,
        offset + (first_page - address),
        first_page,
        last_page - first_page,
    )?;
    copy(
        memory,
        file,
        offset + (last_page - address),
        last_page,
        end - last_page,
    )?;
    let mapped_bytes = last_page - first_page;
    Ok(Loaded {
        mapped_bytes,
        copied_bytes: len - mapped_bytes,
    })
}

/// Whether the range is in memory of small pages that only this process has. (Ranges outside of guest memory are found
/// out by whoever accesses them.)
fn is_private(memory: &Ram, address: u64, len: u64) -> bool {
    let last = address.saturating_add(len.saturating_sub(1));
    [address, last]
        .into_iter()
        .filter_map(|address| memory.find_region(GuestAddress(address)))
        .all(|region| region.file_offset().is_none() && region.is_hugetlbfs() != Some(true))
}

/// One contiguous piece of guest memory in this process.
pub(super) fn host_range(memory: &Ram, address: u64, len: u64) -> Result<*mut u8, MemoryError> {
    let outside = |source| MemoryError::Outside { address, len, source };
    let size = usize::try_from(len).map_err(|_| outside(GuestMemoryError::GuestAddressOverflow))?;
    let slice = memory.get_slice(GuestAddress(address), size).map_err(outside)?;
    if slice.len() < size {
        return Err(outside(GuestMemoryError::PartialBuffer {
            expected: size,
            completed: slice.len(),
        }));
    }
    Ok(slice.ptr_guard_mut().as_ptr())
}

fn copy(memory: &Ram, file: &File, offset: u64, address: u64, len: u64) -> Result<(), MemoryError> {
    if len == 0 {
        return Ok(());
    }
    let start = host_range(memory, address, len)?;
    // SAFETY: `host_range` checked that the range lies in one mapping of guest memory, which `memory` keeps alive.
    // No vCPU exists yet and nothing else holds a reference into guest memory, so the slice is not aliased.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, len as usize) };
    file.read_exact_at(bytes, offset)
        .map_err(|source| MemoryError::Load { address, source })
}

fn map(memory: &Ram, file: &File, offset: u64, address: u64, len: u64) -> Result<(), MemoryError> {
    let start = host_range(memory, address, len)?;
    let failed = |source| MemoryError::Load { address, source };
    let offset = libc::off_t::try_from(offset).map_err(|error| failed(io::Error::other(error)))?;
    // SAFETY: the range lies in one mapping of guest memory (checked by `host_range`), at page boundaries of both.
    // MAP_FIXED replaces exactly these anonymous pages, which nothing references; the new pages have the same
    // protection and live until the whole range is unmapped with guest memory.
    let mapped = unsafe {
        libc::mmap(
            start.cast(),
            len as usize,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
            file.as_raw_fd(),
            offset,
        )
    };
    if mapped == libc::MAP_FAILED {
        Err(failed(io::Error::last_os_error()))
    } else {
        Ok(())
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
