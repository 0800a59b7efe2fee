//! What the kernel finds in memory when it is entered: the zero page of the Linux boot protocol
//! (Documentation/arch/x86/boot.rst and zero-page.rst) or the start info of PVH (Xen, start_info.h).
//!
//! Both are built as plain bytes at the offsets that the documents give.

use super::layout::{self, RangeKind};
use crate::loader::Kernel;
use crate::loader::bzimage::HEADER_START;
use crate::loader::initrd::Initrd;
use crate::memory::{self, MemoryError, Ram};

/// `XEN_HVM_START_MAGIC_VALUE`.
const PVH_MAGIC: u32 = 0x336e_c578;
/// Version of `hvm_start_info` that has a memory map.
const PVH_VERSION: u32 = 1;
/// Size of `hvm_start_info` and of its table entries.
const PVH_START_INFO_BYTES: usize = 56;
const PVH_MODULE_BYTES: usize = 32;
const PVH_RANGE_BYTES: usize = 24;

/// Type of boot loader: one without an assigned number (boot.rst §1.3, type_of_loader).
const LOADER_UNASSIGNED: u8 = 0xff;
/// Version that a header written here, for an ELF kernel, claims.
const PROTOCOL_VERSION: u16 = 0x20f;

/// Everything that goes into either structure.
pub struct BootInfo<'a> {
    /// The loaded kernel.
    pub kernel: &'a Kernel,
    /// The loaded initrds.
    pub initrd: Option<Initrd>,
    /// Length of the command line, which is at [`layout::CMDLINE`].
    pub cmdline_len: usize,
    /// Size of guest memory.
    pub memory_bytes: u64,
    /// Guest address of the ACPI root pointer.
    pub rsdp: u64,
}

/// Puts numbers at offsets of a page.
struct Page(Vec<u8>);

impl Page {
    fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }

    fn put_u32(&mut self, at: usize, value: u32) {
        self.put(at, value.to_le_bytes());
    }

    fn put_u64(&mut self, at: usize, value: u64) {
        self.put(at, value.to_le_bytes());
    }
}

/// Writes the command line with its closing NUL.
pub fn write_cmdline(memory: &Ram, cmdline: &str) -> Result<(), MemoryError> {
    memory::write(memory, layout::CMDLINE, &[cmdline.as_bytes(), &[0]].concat())
}

/// The zero page.
#[must_use]
pub fn zero_page(info: &BootInfo<'_>) -> Vec<u8> {
    let mut page = Page::new(layout::PAGE as usize);
    match &info.kernel.setup_header {
        // "Copy the setup header of the kernel, then fill in the rest" (§1.15).
        Some(header) => {
            let len = header.len().min(0x290 - HEADER_START);
            page.0[HEADER_START..HEADER_START + len].copy_from_slice(&header[..len]);
        }
        None => {
            page.put(0x1fe, 0xaa55u16.to_le_bytes());
            page.put(0x202, *b"HdrS");
            page.put(0x206, PROTOCOL_VERSION.to_le_bytes());
            page.put(0x211, [1]); // loadflags: LOADED_HIGH
            page.put_u32(0x230, 0x20_0000); // kernel_alignment
            page.put_u32(0x22c, u32::try_from(info.kernel.initrd_max).unwrap_or(u32::MAX));
            page.put_u32(0x238, info.kernel.cmdline_max);
        }
    }
    page.put(0x210, [LOADER_UNASSIGNED]);
    // Addresses are split into a low and a high half; ours are all below 4 GiB but the format allows for more.
    let mut split = |low: usize, high: usize, value: u64| {
        page.put_u32(low, value as u32);
        page.put_u32(high, (value >> 32) as u32);
    };
    split(0x228, 0xc8, layout::CMDLINE);
    if let Some(initrd) = info.initrd {
        split(0x218, 0xc0, initrd.address);
        split(0x21c, 0xc4, initrd.bytes);
    }
    page.put_u64(0x70, info.rsdp);
    let map = layout::memory_map(info.memory_bytes);
    page.put(0x1e8, [map.len() as u8]);
    for (index, (start, len, kind)) in map.into_iter().enumerate() {
        let at = 0x2d0 + 20 * index;
        page.put_u64(at, start);
        page.put_u64(at + 8, len);
        page.put_u32(at + 16, kind as u32);
    }
    page.0
}

/// `hvm_start_info`, followed by its module list and its memory map, made to be at [`layout::PVH_START_INFO`].
#[must_use]
pub fn pvh_start_info(info: &BootInfo<'_>) -> Vec<u8> {
    let map = layout::memory_map(info.memory_bytes);
    let modules_at = PVH_START_INFO_BYTES;
    let map_at = modules_at + PVH_MODULE_BYTES;
    let mut page = Page::new(map_at + PVH_RANGE_BYTES * map.len());
    let address = |offset: usize| layout::PVH_START_INFO + offset as u64;
    page.put_u32(0, PVH_MAGIC);
    page.put_u32(4, PVH_VERSION);
    if let Some(initrd) = info.initrd {
        page.put_u32(12, 1);
        page.put_u64(16, address(modules_at));
        page.put_u64(modules_at, initrd.address);
        page.put_u64(modules_at + 8, initrd.bytes);
    }
    if info.cmdline_len > 0 {
        page.put_u64(24, layout::CMDLINE);
    }
    page.put_u64(32, info.rsdp);
    page.put_u64(40, address(map_at));
    page.put_u32(48, map.len() as u32);
    for (index, (start, len, kind)) in map.into_iter().enumerate() {
        let at = map_at + PVH_RANGE_BYTES * index;
        page.put_u64(at, start);
        page.put_u64(at + 8, len);
        // XEN_HVM_MEMMAP_TYPE_* agree with e820's numbers.
        page.put_u32(at + 16, if kind == RangeKind::Ram { 1 } else { 2 });
    }
    page.0
}

#[cfg(test)]
#[path = "boot_params_tests.rs"]
mod tests;
