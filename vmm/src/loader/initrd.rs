//! Initrds: several archives laid out one after the other, as high as the kernel allows.
//!
//! Each archive starts at a page boundary so that it can be mapped. The kernel skips zeros between archives
//! (Documentation/driver-api/early-userspace/buffer-format.rst), so the guest sees one initrd.

use std::fs::File;
use std::io;

use super::LoadError;
use crate::arch::layout::{HOLE_START, PAGE};
use crate::memory::{self, Loaded, Ram};

/// Initrds in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initrd {
    /// First address.
    pub address: u64,
    /// Length, from the start of the first to the end of the last archive.
    pub bytes: u64,
    /// How they came into memory.
    pub loaded: Loaded,
}

/// Loads the archives above `kernel_end`, at most up to `max_address`. `None` when there is nothing to load.
pub fn load(
    memory: &Ram,
    memory_bytes: u64,
    kernel_end: u64,
    max_address: u64,
    files: &[File],
) -> Result<Option<Initrd>, LoadError> {
    let mut lens = Vec::with_capacity(files.len());
    for file in files {
        lens.push(file.metadata().map_err(LoadError::Read)?.len());
    }
    let too_large = || LoadError::Read(io::Error::from(io::ErrorKind::FileTooLarge));
    let mut total = 0u64;
    let mut offsets = Vec::with_capacity(files.len());
    for len in &lens {
        let offset = total.checked_next_multiple_of(PAGE).ok_or_else(too_large)?;
        offsets.push(offset);
        total = offset.checked_add(*len).ok_or_else(too_large)?;
    }
    if total == 0 {
        return Ok(None);
    }
    let to = memory_bytes.min(HOLE_START).min(max_address.saturating_add(1)) / PAGE * PAGE;
    let from = kernel_end.next_multiple_of(PAGE);
    let address = to
        .checked_sub(total)
        .map(|start| start / PAGE * PAGE)
        .filter(|start| *start >= from);
    let Some(address) = address else {
        return Err(LoadError::NoRoom {
            what: "an initrd",
            bytes: total,
            from,
            to,
        });
    };
    let mut loaded = Loaded::default();
    for ((file, len), offset) in files.iter().zip(lens).zip(offsets) {
        loaded += memory::load_file(memory, file, len, 0, address + offset, len)?;
    }
    Ok(Some(Initrd {
        address,
        bytes: total,
        loaded,
    }))
}

#[cfg(test)]
#[path = "initrd_tests.rs"]
mod tests;
