//! Gives pages of guest memory back to the host. What the guest finds there afterwards is undefined until it writes:
//! zeros, or what the file holds that lies below a private mapping (the kernel's, a snapshot's).

use crate::memory::Ram;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

/// Size of a page, of the host and of the guest.
pub const PAGE: u64 = 4096;

/// Why pages were not given back.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// There is no guest memory at this address, or it ends before the range does.
    #[error("there is no guest memory at {address:#x}")]
    Outside {
        /// Where it is missing.
        address: u64,
    },
    /// The host does not take them.
    #[error("cannot give guest memory at {address:#x} back to the host: {source}")]
    Host {
        /// Start of the part that the host refused.
        address: u64,
        /// What it said.
        source: io::Error,
    },
}

/// Discards the whole pages within a range of guest addresses. Returns how many bytes that are; pages that the host's
/// administrator has set aside (hugetlb) stay where they are.
pub fn discard(ram: &Ram, range: Range<u64>) -> Result<u64, DiscardError> {
    let end = range.end / PAGE * PAGE;
    let start = range.start.checked_next_multiple_of(PAGE).unwrap_or(end);
    let mut done = 0;
    let mut address = start;
    // Nothing is given back unless all of it is guest memory.
    while address < end {
        address = part(ram, address, end)?.end;
    }
    address = start;
    while address < end {
        let part = part(ram, address, end)?;
        done += discard_part(ram, part.clone())?;
        address = part.end;
    }
    Ok(done)
}

/// What lies in one region of the range that starts at `address`.
fn part(ram: &Ram, address: u64, end: u64) -> Result<Range<u64>, DiscardError> {
    let region = ram
        .find_region(GuestAddress(address))
        .ok_or(DiscardError::Outside { address })?;
    // The last byte, because a region may end with the address space.
    let last = region.last_addr().raw_value().min(end - 1);
    Ok(address..last + 1)
}

fn discard_part(ram: &Ram, part: Range<u64>) -> Result<u64, DiscardError> {
    let (address, len) = (part.start, part.end - part.start);
    let outside = || DiscardError::Outside { address };
    let region = ram.find_region(GuestAddress(address)).ok_or_else(outside)?;
    if region.is_hugetlbfs() == Some(true) {
        return Ok(0);
    }
    let offset = address - region.start_addr().raw_value();
    let result = match region.file_offset() {
        // Other processes that map the file see the hole, too.
        Some(place) => {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            let start = (place.start() + offset) as libc::off_t;
            // SAFETY: the descriptor is that of the region, which `ram` keeps; the call takes numbers only.
            unsafe { libc::fallocate(place.file().as_raw_fd(), mode, start, len as libc::off_t) }
        }
        None => {
            let host = region
                .get_host_address(MemoryRegionAddress(offset))
                .map_err(|_| outside())?;
            // SAFETY: the range lies within the region's mapping, which `ram` keeps, at page boundaries. Nothing of this
            // program holds references into guest memory: it may change at any time anyway.
            unsafe { libc::madvise(host.cast(), len as usize, libc::MADV_DONTNEED) }
        }
    };
    match result {
        0 => Ok(len),
        _ => Err(DiscardError::Host {
            address,
            source: io::Error::last_os_error(),
        }),
    }
}

#[cfg(test)]
#[path = "discard_tests.rs"]
mod tests;
