//! Guest memory. The rest of the program sees [`Ram`], devices the same type by another name.
//!
//! By default it is private: anonymous pages, which take no host memory until they are touched. Shared memory is a
//! file without a name (memfd) whose descriptor other processes may map: vhost-user back ends, and those who save the
//! VM. Each region then says where it lies in which file (`GuestMemoryRegion::file_offset`).

mod backing;
mod load;

use std::io;

use thiserror::Error;
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryError, GuestRegionMmap};

use crate::arch::layout::ram_ranges;
use crate::config::MemoryConfig;

pub use load::{Loaded, load_file};

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

/// Makes the memory of a guest as `config` asks for. Pages take no host memory until they are touched.
pub fn create(memory_bytes: u64, config: &MemoryConfig) -> Result<Ram, MemoryError> {
    let reserve = |source| MemoryError::Reserve {
        bytes: memory_bytes,
        source,
    };
    let file = match config.shared {
        true => Some(backing::memory_file(memory_bytes).map_err(reserve)?),
        false => None,
    };
    let mut regions = Vec::new();
    let mut offset = 0;
    for (start, bytes) in ram_ranges(memory_bytes) {
        let mapping = usize::try_from(bytes).map_err(io::Error::other).and_then(|len| {
            let builder = MmapRegionBuilder::new(len).with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE);
            let builder = match &file {
                Some(file) => builder
                    .with_mmap_flags(libc::MAP_SHARED | libc::MAP_NORESERVE)
                    .with_file_offset(FileOffset::from_arc(file.clone(), offset)),
                None => {
                    builder.with_mmap_flags(libc::MAP_ANONYMOUS | libc::MAP_PRIVATE | libc::MAP_NORESERVE)
                }
            };
            builder.build().map_err(io::Error::other)
        });
        offset += bytes;
        let mapping = mapping.map_err(|source| MemoryError::Reserve { bytes, source })?;
        let region =
            GuestRegionMmap::new(mapping, GuestAddress(start)).ok_or_else(|| MemoryError::Reserve {
                bytes,
                source: io::Error::other("it exceeds the guest's address space"),
            })?;
        regions.push(region);
    }
    Ram::from_regions(regions).map_err(|error| reserve(io::Error::other(error)))
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

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
