//! Brings a kernel and its initrds into guest memory.
//!
//! The kernel's format is recognised by its contents. What a kernel or initrd file says is not trusted more than a
//! guest: numbers are checked, nothing outside guest memory is touched.

pub mod bzimage;
pub mod elf;
pub mod initrd;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use thiserror::Error;

use crate::arch::layout::{HIGH_RAM, HOLE_START, PAGE};
use crate::config::BootProtocol;
use crate::memory::{self, Loaded, MemoryError, Ram};

/// Why a kernel or initrd cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file could not be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be read.
    #[error("cannot read the file: {0}")]
    Read(#[source] io::Error),
    /// The file ends within its headers.
    #[error("the file is truncated")]
    Truncated,
    /// The file is of no known format.
    #[error(
        "the file is neither an ELF vmlinux nor a bzImage; give an uncompressed x86-64 vmlinux or a bzImage"
    )]
    UnknownFormat,
    /// The format is known, but this file is not a kernel that can be booted here.
    #[error("the {format} kernel cannot be booted: {problem}")]
    Unusable {
        /// ELF or bzImage.
        format: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The asked protocol does not fit the kernel.
    #[error(
        "the kernel cannot be booted by PVH: {0}; leave out `protocol` or use a vmlinux with CONFIG_PVH=y"
    )]
    NoPvh(&'static str),
    /// Something does not fit between other things.
    #[error("{what} of {bytes} bytes does not fit between {from:#x} and {to:#x}; give the VM more memory")]
    NoRoom {
        /// Kernel or initrd.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// First usable address.
        from: u64,
        /// First address after.
        to: u64,
    },
    /// Guest memory refused.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// A kernel in guest memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// How it is entered.
    pub protocol: BootProtocol,
    /// Where it is entered.
    pub entry: u64,
    /// First address it leaves free.
    pub end: u64,
    /// Highest address that its initrd may touch.
    pub initrd_max: u64,
    /// Its setup header, if it is a bzImage.
    pub setup_header: Option<Vec<u8>>,
    /// Longest command line it reads.
    pub cmdline_max: u32,
    /// How it came into memory.
    pub loaded: Loaded,
}

/// Loads the kernel in `file` by `protocol`, or by the best it offers.
pub fn load_kernel(
    memory: &Ram,
    memory_bytes: u64,
    file: &File,
    protocol: Option<BootProtocol>,
) -> Result<Kernel, LoadError> {
    let file_len = file.metadata().map_err(LoadError::Read)?.len();
    let mut start = [0; 0x210];
    let len = read_start(file, &mut start)?;
    if elf::is_elf(&start[..len]) {
        return load_elf(memory, memory_bytes, file, file_len, protocol);
    }
    if bzimage::is_bzimage(&start[..len]) {
        if protocol == Some(BootProtocol::Pvh) {
            return Err(LoadError::NoPvh("it is a bzImage, which has no PVH entry"));
        }
        return load_bzimage(memory, memory_bytes, file, file_len);
    }
    Err(LoadError::UnknownFormat)
}

fn read_start(file: &File, start: &mut [u8]) -> Result<usize, LoadError> {
    let mut len = 0;
    while let Some(rest) = start.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, len as u64) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(LoadError::Read(error)),
        }
    }
    Ok(len)
}

/// Kernels stay above 1 MiB, clear of the boot structures, and below the end of the RAM under 4 GiB.
fn check_room(address: u64, bytes: u64, memory_bytes: u64) -> Result<u64, LoadError> {
    let to = memory_bytes.min(HOLE_START);
    match address.checked_add(bytes) {
        Some(end) if address >= HIGH_RAM && end <= to => Ok(end),
        _ => Err(LoadError::NoRoom {
            what: "a kernel segment",
            bytes,
            from: address.max(HIGH_RAM),
            to,
        }),
    }
}

fn load_elf(
    memory: &Ram,
    memory_bytes: u64,
    file: &File,
    file_len: u64,
    protocol: Option<BootProtocol>,
) -> Result<Kernel, LoadError> {
    let elf = elf::read(file)?;
    let (protocol, entry) = match (protocol, elf.pvh_entry) {
        (Some(BootProtocol::Pvh), Some(entry)) => (BootProtocol::Pvh, entry),
        (Some(BootProtocol::Pvh), None) => return Err(LoadError::NoPvh("it has no PVH entry note")),
        _ => (BootProtocol::Linux64, elf.entry),
    };
    let mut loaded = Loaded::default();
    let mut end = HIGH_RAM;
    for segment in &elf.segments {
        end = end.max(check_room(segment.address, segment.memory_bytes, memory_bytes)?);
        loaded += memory::load_file(
            memory,
            file,
            file_len,
            segment.offset,
            segment.address,
            segment.file_bytes,
        )?;
    }
    if !elf
        .segments
        .iter()
        .any(|s| (s.address..s.address + s.memory_bytes).contains(&entry))
    {
        let problem = format!("its entry point {entry:#x} is in no segment");
        return Err(LoadError::Unusable {
            format: "ELF",
            problem,
        });
    }
    Ok(Kernel {
        protocol,
        entry,
        end,
        // What a kernel without a setup header would say: all it can map early on.
        initrd_max: 0x7fff_ffff,
        setup_header: None,
        cmdline_max: crate::config::MAX_CMDLINE_LEN as u32,
        loaded,
    })
}

fn load_bzimage(memory: &Ram, memory_bytes: u64, file: &File, file_len: u64) -> Result<Kernel, LoadError> {
    let image = bzimage::read(file, file_len)?;
    let end = check_room(image.address, image.memory_bytes, memory_bytes)?;
    let loaded = memory::load_file(
        memory,
        file,
        file_len,
        image.offset,
        image.address,
        image.file_bytes,
    )?;
    Ok(Kernel {
        protocol: BootProtocol::Linux64,
        entry: image.entry,
        end: end.next_multiple_of(PAGE),
        initrd_max: image.initrd_max,
        setup_header: Some(image.header),
        cmdline_max: image.cmdline_max,
        loaded,
    })
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
