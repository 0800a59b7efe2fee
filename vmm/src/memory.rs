//! Guest memory: made of private anonymous pages, with files mapped copy-on-write over parts of it.
//!
//! A kernel of 16 MB costs a few microseconds this way instead of the milliseconds that copying takes, and the pages
//! that no guest writes to are shared by all VMs that boot the same file. The file must not be changed while a VM
//! uses it; replacing it by renaming is fine.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use thiserror::Error;
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestRegionMmap};

use crate::arch::layout::{PAGE, ram_ranges};

/// Guest memory as the devices see it.
pub type Ram = vm_memory::GuestMemoryMmap<()>;

/// Why guest memory could not be made or filled.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// The system has not enough address space or memory.
    #[error("cannot reserve {bytes} bytes of guest memory: {source}; give the VM less memory")]
    Reserve {
        /// How much was asked for.
        bytes: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The ranges do not make a memory map.
    #[error("cannot lay out guest memory: {0}")]
    Layout(#[from] FromRangesError),
    /// A range is not in guest memory.
    #[error(
        "{len:#x} bytes at guest address {address:#x} do not fit into guest memory; give the VM more memory"
    )]
    Outside {
        /// First guest address.
        address: u64,
        /// Length.
        len: u64,
        /// Where the access failed.
        source: GuestMemoryError,
    },
    /// The file ends before the range that was to be loaded.
    #[error("the file ends before byte {end}: it is truncated")]
    Truncated {
        /// Where the range ends in the file.
        end: u64,
    },
    /// The file could not be mapped or read.
    #[error("cannot load file contents to guest address {address:#x}: {source}")]
    Load {
        /// First guest address.
        address: u64,
        /// What the system said.
        source: io::Error,
    },
}

/// Makes the memory of a guest. Pages take no host memory until they are touched.
pub fn create(memory_bytes: u64) -> Result<Ram, MemoryError> {
    let mut regions = Vec::new();
    for (start, bytes) in ram_ranges(memory_bytes) {
        let mapping = usize::try_from(bytes).map_err(io::Error::other).and_then(|len| {
            MmapRegionBuilder::new(len)
                .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                .with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE)
                .build()
                .map_err(io::Error::other)
        });
        let mapping = mapping.map_err(|source| MemoryError::Reserve { bytes, source })?;
        let region =
            GuestRegionMmap::new(mapping, GuestAddress(start)).ok_or_else(|| MemoryError::Reserve {
                bytes,
                source: io::Error::other("it exceeds the guest's address space"),
            })?;
        regions.push(region);
    }
    Ram::from_regions(regions).map_err(|error| MemoryError::Reserve {
        bytes: memory_bytes,
        source: io::Error::other(error),
    })
}

/// Writes `bytes` to guest memory.
pub fn write(memory: &Ram, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
    memory
        .write_slice(bytes, GuestAddress(address))
        .map_err(|source| MemoryError::Outside {
            address,
            len: bytes.len() as u64,
            source,
        })
}

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
/// Whole pages are mapped where file offset and address are congruent modulo the page size; the rest is copied, so
/// that bytes around the range stay as they are. `file_len` is the file's length: pages beyond it would fault.
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
    if offset % PAGE != address % PAGE || first_page >= last_page {
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

/// One contiguous piece of guest memory in this process.
fn host_range(memory: &Ram, address: u64, len: u64) -> Result<*mut u8, MemoryError> {
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
#[path = "memory_tests.rs"]
mod tests;
