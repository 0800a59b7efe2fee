//! Guest memory. The rest of the program sees [`Ram`], devices the same type by another name.
//!
//! By default it is private: anonymous pages, which take no host memory until they are touched. Shared memory is a
//! file without a name (memfd) whose descriptor other processes may map: vhost-user back ends, and those who save the
//! VM. Each region then says where it lies in which file (`GuestMemoryRegion::file_offset`).

mod backing;
mod load;
mod numa;
mod prefault;

use std::io;

use thiserror::Error;
use vm_memory::mmap::FromRangesError;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestRegionMmap};

use crate::arch::layout::{hotplug_region, ram_ranges};
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
    /// The host does not make large pages by itself.
    #[error(
        "memory.hugepages is \"transparent\", but the host makes none: {path} is {setting}; set it to {remedy}, or leave memory.hugepages out"
    )]
    NoTransparentPages {
        /// What the host's administrator chose.
        setting: String,
        /// Where.
        path: String,
        /// What would do.
        remedy: &'static str,
    },
    /// The host has not enough pages set aside.
    #[error(
        "the VM needs {needed} huge pages of {size} bytes, the host has {free} free; write {wanted} to {pool}/nr_hugepages (for the usual size also by sysctl vm.nr_hugepages={wanted})"
    )]
    NoHugePages {
        /// Bytes of a page.
        size: u64,
        /// Pages that are needed.
        needed: u64,
        /// Pages that are free.
        free: u64,
        /// What the host would have to have altogether.
        wanted: u64,
        /// The host's settings of pages of this size.
        pool: String,
    },
    /// The host has no such node.
    #[error(
        "memory.nodes[{node}].host_nodes is {wanted}, but the host has memory on nodes {there:?}; name some of these or leave host_nodes out"
    )]
    NoHostNode {
        /// The guest's node.
        node: usize,
        /// What was asked for.
        wanted: String,
        /// What the host has.
        there: String,
    },
    /// The host does not bind memory to its nodes.
    #[error(
        "cannot take the memory of memory.nodes[{node}] from host nodes {wanted}: {source}; see whether the cpuset of this process has them"
    )]
    Bind {
        /// The guest's node.
        node: usize,
        /// What was asked for.
        wanted: String,
        /// What the system said.
        source: io::Error,
    },
    /// The host has not so much memory.
    #[error(
        "cannot take all guest memory from the host at once: {0}; give the VM less memory or no memory.prefault"
    )]
    Prefault(#[source] io::Error),
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

/// Makes the memory of a guest as `config` asks for, the region of memory to plug included. Pages take no host memory
/// until they are touched.
pub fn create(memory_bytes: u64, config: &MemoryConfig) -> Result<Ram, MemoryError> {
    let mut ranges = ram_ranges(memory_bytes);
    ranges.extend(hotplug_region(memory_bytes, config.hotplug_bytes()));
    let total = memory_bytes + config.hotplug_bytes();
    let mut backing = backing::Backing::new(total, config)?;
    let mut regions = Vec::new();
    for (start, bytes) in ranges {
        let mapping = backing
            .map(bytes)
            .map_err(|source| MemoryError::Reserve { bytes, source })?;
        let region =
            GuestRegionMmap::new(mapping, GuestAddress(start)).ok_or_else(|| MemoryError::Reserve {
                bytes,
                source: io::Error::other("it exceeds the guest's address space"),
            })?;
        regions.push(region);
    }
    let memory = Ram::from_regions(regions).map_err(|error| MemoryError::Reserve {
        bytes: total,
        source: io::Error::other(error),
    })?;
    numa::bind(&memory, memory_bytes, config)?;
    Ok(memory)
}

/// Takes memory from the host, if `config` asks for it or could be disappointed later: the host keeps pages that are
/// set aside for whoever claimed them, but not those of a certain node. To be called once everything is loaded.
pub fn prefault(memory: &Ram, memory_bytes: u64, config: &MemoryConfig) -> Result<(), MemoryError> {
    let of_a_node = config.nodes.iter().any(|node| node.host_nodes.is_some());
    match config.prefault || (of_a_node && config.hugepages.reserved_size().is_some()) {
        true => prefault::prefault(memory, &ram_ranges(memory_bytes)),
        false => Ok(()),
    }
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
