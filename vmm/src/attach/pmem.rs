//! Persistent memory.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::ptr;

use devices::virtio::pmem::{self, Pmem};

use super::disk::open_and_lock;
use super::{AttachError, Made, failed};
use crate::arch::layout::{self, PAGE};
use crate::config::{PmemConfig, VmConfig};
use crate::host_file::Access;

/// Linux takes persistent memory in multiples of this (a subsection of its memory map).
const ALIGNMENT: u64 = 2 << 20;

/// A file in this process' memory, for KVM to show to the guest. Nothing unmaps it: it is there until the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Mapping {
    /// First guest address.
    pub address: u64,
    /// Size, a multiple of 2 MiB.
    pub bytes: u64,
    /// Where it is in this process.
    pub host: *mut libc::c_void,
    /// Whether the guest must not write.
    pub read_only: bool,
}

/// Makes all persistent memory devices, one after the other above everything else. The mappings are to be given to KVM.
pub fn make_all(config: &VmConfig) -> Result<(Vec<Made>, Vec<Mapping>), AttachError> {
    let mut next = layout::pmem_start(config.memory_bytes, config.memory.hotplug_bytes());
    let (mut made, mut mappings) = (Vec::new(), Vec::new());
    for pmem in &config.pmem {
        let path = config.resolve(&pmem.path);
        let access = match pmem.read_only {
            true => Access::Read,
            false => Access::ReadWrite,
        };
        let make = || {
            let file = open_and_lock(&path, access)?;
            let mapping = map(&file, pmem, next)?;
            Ok::<_, io::Error>((file, mapping))
        };
        let (file, mapping) = make().map_err(failed("pmem", &pmem.id, path.display()))?;
        next = mapping.address + mapping.bytes;
        let device_config = pmem::Config {
            address: mapping.address,
            bytes: mapping.bytes,
            read_only: pmem.read_only,
        };
        made.push(Made::new(&pmem.id, "pmem", Pmem::new(device_config, file)));
        mappings.push(mapping);
    }
    Ok((made, mappings))
}

fn invalid(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem.into())
}

/// Maps a file shared, so that all VMs that use it have the same pages of the host. What is missing to a multiple of 2 MiB
/// reads as zero, which is good for nothing but reading.
fn map(mut file: &File, pmem: &PmemConfig, address: u64) -> io::Result<Mapping> {
    let len = file.seek(SeekFrom::End(0))?;
    let end = layout::addresses_end(layout::address_bits());
    let bytes = len
        .checked_next_multiple_of(ALIGNMENT)
        .filter(|bytes| address.checked_add(*bytes).is_some_and(|after| after <= end))
        .ok_or_else(|| {
            invalid(format!(
                "it has {len} bytes; from address {address:#x} on, where it would be, the guest has addresses up to {end:#x}"
            ))
        })?;
    if len == 0 {
        return Err(invalid("it is empty"));
    }
    if !pmem.read_only && bytes != len {
        return Err(invalid(format!(
            "it has {len} bytes; what the guest can write to has to be a multiple of {ALIGNMENT}: make it {bytes} bytes long"
        )));
    }
    let prot = match pmem.read_only {
        true => libc::PROT_READ,
        false => libc::PROT_READ | libc::PROT_WRITE,
    };
    // Room for the beginning to be at a multiple of 2 MiB, so that large pages can be used.
    let room = usize::try_from(bytes + ALIGNMENT).map_err(io::Error::other)?;
    // SAFETY: maps zeros at addresses that are free.
    let start = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(ptr::null_mut(), room, libc::PROT_READ, flags, -1, 0)
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let before = start.align_offset(ALIGNMENT as usize).min(ALIGNMENT as usize);
    let host = start.wrapping_byte_add(before);
    // The last page is the file's to its end, and zero after it.
    let of_file = len.next_multiple_of(PAGE) as usize;
    // SAFETY: replaces a part of the zeros just mapped, which nobody uses yet.
    let mapped = unsafe {
        libc::mmap(
            host,
            of_file,
            prot,
            libc::MAP_SHARED | libc::MAP_FIXED,
            file.as_raw_fd(),
            0,
        )
    };
    match mapped == libc::MAP_FAILED {
        true => Err(io::Error::last_os_error()),
        false => Ok(Mapping {
            address,
            bytes,
            host,
            read_only: pmem.read_only,
        }),
    }
}
