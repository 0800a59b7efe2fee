//! The guest: a file shaped like an uncompressed kernel whose first instructions write one byte to the serial port.

/// The byte. No VMM prints it of its own accord.
pub(crate) const MARK: u8 = 0x01;

/// Where the kernel lies and is entered, as Linux does.
const LOAD_ADDRESS: u64 = 0x100_0000;
/// Size of its one segment: what a small Linux kernel has.
const SEGMENT_BYTES: usize = 16 << 20;
/// The segment's place in the file, congruent to its address modulo the page size.
const SEGMENT_OFFSET: u64 = 0x1000;
const NOTE_OFFSET: u64 = 0x200;
/// `XEN_ELFNOTE_PHYS32_ENTRY` (xen/include/public/elfnote.h): the PVH entry.
const PHYS32_ENTRY: u32 = 18;
/// Size of the firmware; the last of its 16-byte blocks is mapped below 4 GiB and is where a processor starts.
const FIRMWARE_BYTES: usize = 64 << 10;

/// `mov al, MARK; mov dx, 0x3f8; out dx, al; again: hlt; jmp again`, which is the same in 32- and 64-bit mode.
const CODE: [u8; 10] = [0xb0, MARK, 0x66, 0xba, 0xf8, 0x03, 0xee, 0xf4, 0xeb, 0xfd];
/// The same in 16-bit mode, where the operand size needs no prefix.
const CODE16: [u8; 9] = [0xb0, MARK, 0xba, 0xf8, 0x03, 0xee, 0xf4, 0xeb, 0xfd];

/// An ELF file with one loadable segment, entered at its start by PVH or by the 64-bit boot protocol.
pub(crate) fn kernel() -> Vec<u8> {
    let mut file = vec![0; SEGMENT_OFFSET as usize];
    // ELF header: 64-bit, little endian, executable, x86-64.
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    put16(&mut file, 16, 2);
    put16(&mut file, 18, 62);
    put32(&mut file, 20, 1);
    put64(&mut file, 24, LOAD_ADDRESS);
    put64(&mut file, 32, 64);
    // Sizes of this header, of a program header, and of a section header; two program headers.
    for (offset, value) in [(52, 64), (54, 56), (56, 2), (58, 64)] {
        put16(&mut file, offset, value);
    }
    program_header(
        &mut file[64..],
        1,
        7,
        SEGMENT_OFFSET,
        LOAD_ADDRESS,
        SEGMENT_BYTES as u64,
        0x1000,
    );
    program_header(&mut file[120..], 4, 4, NOTE_OFFSET, 0, 24, 4);
    let note = NOTE_OFFSET as usize;
    put32(&mut file, note, 4);
    put32(&mut file, note + 4, 8);
    put32(&mut file, note + 8, PHYS32_ENTRY);
    file[note + 12..note + 16].copy_from_slice(b"Xen\0");
    put64(&mut file, note + 16, LOAD_ADDRESS);
    file.extend_from_slice(&CODE);
    // No pages of zeros, which a loader or a file system could leave out.
    let mut value = 0x9e37_79b9_u32;
    while file.len() < SEGMENT_OFFSET as usize + SEGMENT_BYTES {
        value = value.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        file.push((value >> 24) as u8);
    }
    file
}

/// A firmware that does the same at the reset vector (SDM vol. 3 §11.1.4: 16 bytes below 4 GiB, 16-bit mode).
pub(crate) fn firmware() -> Vec<u8> {
    let mut file = vec![0xf4; FIRMWARE_BYTES];
    let reset_vector = FIRMWARE_BYTES - 16;
    file[reset_vector..reset_vector + CODE16.len()].copy_from_slice(&CODE16);
    file
}

fn program_header(at: &mut [u8], kind: u32, flags: u32, offset: u64, address: u64, bytes: u64, align: u64) {
    put32(at, 0, kind);
    put32(at, 4, flags);
    for (index, value) in [offset, address, address, bytes, bytes, align]
        .into_iter()
        .enumerate()
    {
        put64(at, 8 + 8 * index, value);
    }
}

fn put16(bytes: &mut [u8], offset: usize, value: u16) {
    bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut [u8], offset: usize, value: u32) {
    bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

fn put64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
