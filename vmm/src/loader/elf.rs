//! ELF kernels (`vmlinux`): where their segments go and where they are entered.
//!
//! Only headers are looked at here. Every number in them is checked where it is read; the segments themselves are
//! brought into memory by [`crate::memory::load_file`].

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::LoadError;

/// More program headers than any kernel has.
const MAX_SEGMENTS: u16 = 64;
/// Notes of kernels have a few hundred bytes.
const MAX_NOTE_BYTES: u64 = 64 << 10;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the physical address of the PVH entry point (Xen, elfnote.h).
const XEN_PHYS32_ENTRY: u32 = 18;

const ELF_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_X86_64: u16 = 62;

/// A piece of the file and its place in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts in the file.
    pub offset: u64,
    /// Where it starts in guest memory.
    pub address: u64,
    /// Bytes that come from the file.
    pub file_bytes: u64,
    /// Bytes it takes in memory; what exceeds `file_bytes` is zero.
    pub memory_bytes: u64,
}

/// What the headers of an ELF kernel say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfKernel {
    /// Entry point of the 64-bit protocol.
    pub entry: u64,
    /// Entry point of the PVH protocol, if the kernel has one.
    pub pvh_entry: Option<u64>,
    /// Segments to load.
    pub segments: Vec<Segment>,
}

/// Whether a file that starts with these bytes is ELF.
#[must_use]
pub fn is_elf(start: &[u8]) -> bool {
    start.starts_with(b"\x7fELF")
}

/// Little-endian numbers out of a byte slice; what is not there reads as an error.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], LoadError> {
    let slice = at.checked_add(N).and_then(|end| bytes.get(at..end));
    slice
        .and_then(|slice| slice.try_into().ok())
        .ok_or(LoadError::Truncated)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, LoadError> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, LoadError> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, LoadError> {
    number(bytes, at).map(u64::from_le_bytes)
}

fn unusable(problem: impl Into<String>) -> LoadError {
    LoadError::Unusable {
        format: "ELF",
        problem: problem.into(),
    }
}

/// Reads the headers of an ELF kernel.
pub fn read(file: &File) -> Result<ElfKernel, LoadError> {
    let mut header = [0; ELF_HEADER_BYTES];
    read_exact(file, &mut header, 0)?;
    if !is_elf(&header) {
        return Err(unusable("the file does not start with the ELF magic"));
    }
    if header[4..6] != [2, 1] {
        return Err(unusable("it is not 64-bit little-endian"));
    }
    let (kind, machine) = (u16_at(&header, 16)?, u16_at(&header, 18)?);
    if machine != EM_X86_64 || (kind != ET_EXEC && kind != ET_DYN) {
        return Err(unusable(format!(
            "type {kind} for machine {machine} is not an x86-64 kernel"
        )));
    }
    let entry = u64_at(&header, 24)?;
    let table = u64_at(&header, 32)?;
    let (size, count) = (u16_at(&header, 54)?, u16_at(&header, 56)?);
    if size != PROGRAM_HEADER_BYTES || count == 0 || count > MAX_SEGMENTS {
        return Err(unusable(format!(
            "{count} program headers of {size} bytes (1 to {MAX_SEGMENTS} of 56 expected)"
        )));
    }
    let mut headers = vec![0; usize::from(size) * usize::from(count)];
    read_exact(file, &mut headers, table)?;

    let mut kernel = ElfKernel {
        entry,
        pvh_entry: None,
        segments: Vec::new(),
    };
    for header in headers.chunks_exact(usize::from(size)) {
        let (offset, file_bytes) = (u64_at(header, 8)?, u64_at(header, 32)?);
        match u32_at(header, 0)? {
            PT_LOAD => {
                let segment = Segment {
                    offset,
                    address: u64_at(header, 24)?,
                    file_bytes,
                    memory_bytes: u64_at(header, 40)?,
                };
                check_segment(&segment)?;
                if segment.memory_bytes > 0 {
                    kernel.segments.push(segment);
                }
            }
            PT_NOTE if file_bytes <= MAX_NOTE_BYTES && kernel.pvh_entry.is_none() => {
                let mut notes = vec![0; file_bytes as usize];
                read_exact(file, &mut notes, offset)?;
                kernel.pvh_entry = pvh_entry(&notes);
            }
            _ => {}
        }
    }
    check_overlaps(&kernel.segments)?;
    Ok(kernel)
}

fn check_segment(segment: &Segment) -> Result<(), LoadError> {
    let Segment {
        address,
        file_bytes,
        memory_bytes,
        ..
    } = *segment;
    if file_bytes > memory_bytes {
        return Err(unusable(format!(
            "a segment has {file_bytes} bytes for {memory_bytes} bytes of memory"
        )));
    }
    if address.checked_add(memory_bytes).is_none() {
        return Err(unusable(format!(
            "a segment at {address:#x} with {memory_bytes:#x} bytes has no end"
        )));
    }
    Ok(())
}

/// Two segments in one place would make the result depend on their order.
fn check_overlaps(segments: &[Segment]) -> Result<(), LoadError> {
    let mut sorted = segments.to_vec();
    sorted.sort_by_key(|segment| segment.address);
    for pair in sorted.windows(2) {
        if let [first, second] = pair
            && first.address + first.memory_bytes > second.address
        {
            return Err(unusable(format!(
                "segments at {:#x} and {:#x} overlap",
                first.address, second.address
            )));
        }
    }
    if sorted.is_empty() {
        Err(unusable("it has nothing to load"))
    } else {
        Ok(())
    }
}

/// Looks for the PVH entry among notes: name size, description size, type, name and description, the latter two
/// padded to 4 bytes each.
fn pvh_entry(mut notes: &[u8]) -> Option<u64> {
    while notes.len() >= 12 {
        let name_len = usize::try_from(u32_at(notes, 0).ok()?).ok()?;
        let desc_len = usize::try_from(u32_at(notes, 4).ok()?).ok()?;
        let kind = u32_at(notes, 8).ok()?;
        let desc_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let next = desc_at.checked_add(desc_len.checked_next_multiple_of(4)?)?;
        let name = notes.get(12..)?.get(..name_len)?;
        let desc = notes.get(desc_at..)?.get(..desc_len)?;
        if kind == XEN_PHYS32_ENTRY && name == b"Xen\0" {
            return match desc_len {
                4 => u32_at(desc, 0).ok().map(u64::from),
                // The entry is used in 32-bit mode.
                8 => u64_at(desc, 0).ok().filter(|entry| *entry <= u64::from(u32::MAX)),
                _ => None,
            };
        }
        notes = notes.get(next..)?;
    }
    None
}

fn read_exact(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), LoadError> {
    file.read_exact_at(bytes, offset)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput => LoadError::Truncated,
            _ => LoadError::Read(error),
        })
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;
