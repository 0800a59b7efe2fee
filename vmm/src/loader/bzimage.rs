//! bzImages: the compressed kernels of distributions (Documentation/arch/x86/boot.rst in Linux).
//!
//! The setup header says where the protected-mode part starts in the file, where it wants to be and how much room it
//! needs to unpack itself. It is entered in 64-bit mode 0x200 bytes after its start (§1.15).

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::LoadError;

/// The setup header starts here, in the file and in the zero page.
pub const HEADER_START: usize = 0x1f1;
/// Bytes of the file that are read to find the header.
const HEAD_BYTES: usize = 0x1000;
/// Since this version there is a flag that promises a 64-bit entry.
const PROTOCOL_2_12: u16 = 0x20c;
/// `xloadflags`: the 64-bit entry at 0x200 exists.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `loadflags`: the protected-mode part is made for 1 MiB and above.
const LOADED_HIGH: u8 = 1 << 0;
/// Distance of the 64-bit entry from the start of the protected-mode part.
const ENTRY_64: u64 = 0x200;

/// What the setup header of a bzImage says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BzImage {
    /// The setup header as it is in the file, from [`HEADER_START`].
    pub header: Vec<u8>,
    /// Where the protected-mode part starts in the file; it goes to the file's end.
    pub offset: u64,
    /// Length of the protected-mode part.
    pub file_bytes: u64,
    /// Where it is to be loaded.
    pub address: u64,
    /// Memory it needs there until it reads the memory map.
    pub memory_bytes: u64,
    /// Highest address that an initrd may touch.
    pub initrd_max: u64,
    /// Longest command line, without the closing NUL.
    pub cmdline_max: u32,
    /// 64-bit entry point.
    pub entry: u64,
}

/// Whether a file that starts with these bytes is a bzImage.
#[must_use]
pub fn is_bzimage(start: &[u8]) -> bool {
    start.get(0x202..0x206) == Some(b"HdrS") && start.get(0x1fe..0x200) == Some(&[0x55, 0xaa])
}

fn unusable(problem: impl Into<String>) -> LoadError {
    LoadError::Unusable {
        format: "bzImage",
        problem: problem.into(),
    }
}

/// Reads the setup header of a bzImage.
pub fn read(file: &File, file_len: u64) -> Result<BzImage, LoadError> {
    let mut head = vec![0; HEAD_BYTES.min(usize::try_from(file_len).unwrap_or(HEAD_BYTES))];
    file.read_exact_at(&mut head, 0).map_err(LoadError::Read)?;
    parse(&head, file_len)
}

/// Reads the setup header from the first bytes of a bzImage.
pub fn parse(head: &[u8], file_len: u64) -> Result<BzImage, LoadError> {
    if !is_bzimage(head) {
        return Err(unusable("it has no setup header"));
    }
    let bytes = |at: usize, len: usize| head.get(at..at + len).ok_or(LoadError::Truncated);
    let u8_at = |at| bytes(at, 1).map(|b| b[0]);
    let u16_at = |at| bytes(at, 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let u32_at = |at| bytes(at, 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));

    let version = u16_at(0x206)?;
    if version < PROTOCOL_2_12 || u16_at(0x236)? & XLF_KERNEL_64 == 0 {
        let version = format!("{}.{}", version >> 8, version & 0xff);
        return Err(unusable(format!(
            "boot protocol {version} without a 64-bit entry; use a 64-bit kernel of 3.8 or later"
        )));
    }
    if u8_at(0x211)? & LOADED_HIGH == 0 {
        return Err(unusable("it is a zImage, made to be loaded below 1 MiB"));
    }
    // 0 means 4, for reasons of 1991 (§1.3, setup_sects).
    let setup_sectors = match u8_at(0x1f1)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let offset = (setup_sectors + 1) * 512;
    let file_bytes = file_len
        .checked_sub(offset)
        .filter(|len| *len > ENTRY_64)
        .ok_or(LoadError::Truncated)?;
    // The header ends where its jump instruction, a byte after its length, lands (§1.3, jump).
    let header_end = 0x202 + usize::from(u8_at(0x201)?);
    let header = head
        .get(HEADER_START..header_end)
        .ok_or(LoadError::Truncated)?
        .to_vec();
    let preferred = bytes(0x258, 8).map(|b| b.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b)))?;
    if !(0x264..=0x290).contains(&header_end) {
        return Err(unusable(format!("the setup header ends at {header_end:#x}")));
    }
    let memory_bytes = u64::from(u32_at(0x260)?).max(file_bytes);
    let entry = preferred
        .checked_add(ENTRY_64)
        .ok_or_else(|| unusable(format!("it wants to be at {preferred:#x}")))?;
    Ok(BzImage {
        header,
        offset,
        file_bytes,
        address: preferred,
        memory_bytes,
        initrd_max: u64::from(u32_at(0x22c)?),
        cmdline_max: u32_at(0x238)?,
        entry,
    })
}

#[cfg(test)]
#[path = "bzimage_tests.rs"]
mod tests;
