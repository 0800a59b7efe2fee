//! Kernels of both formats, made by the test, in guest memory.

use super::*;
use crate::config::MemoryConfig;
use std::io::Write;
use vm_memory::{Bytes, GuestAddress};

/// A small ELF kernel under construction: segments with address, contents and size in memory.
pub(super) struct ElfFile {
    pub(super) entry: u64,
    pub(super) segments: Vec<(u64, Vec<u8>, u64)>,
    pub(super) note: Option<Vec<u8>>,
}

impl Default for ElfFile {
    fn default() -> Self {
        Self {
            entry: 0x10_0000,
            segments: vec![(0x10_0000, vec![0xf4; 64], 64)],
            note: None,
        }
    }
}

impl ElfFile {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; 4096];
        let mut headers = Vec::new();
        let note = self.note.iter().map(|note| (4u32, 0, note, note.len() as u64));
        let loads = self
            .segments
            .iter()
            .map(|(address, bytes, size)| (1u32, *address, bytes, *size));
        for (kind, address, bytes, size) in loads.chain(note) {
            file.resize(file.len().next_multiple_of(4096), 0);
            let offset = file.len() as u64 + address % 4096;
            file.resize(offset as usize, 0);
            file.extend(bytes);
            headers.extend(kind.to_le_bytes());
            headers.extend(7u32.to_le_bytes());
            for number in [offset, address, address, bytes.len() as u64, size, 4096] {
                headers.extend(number.to_le_bytes());
            }
        }
        let count = (headers.len() / 56) as u16;
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        file[16..20].copy_from_slice(&[2, 0, 62, 0]);
        file[24..32].copy_from_slice(&self.entry.to_le_bytes());
        file[32..40].copy_from_slice(&64u64.to_le_bytes());
        file[54..56].copy_from_slice(&56u16.to_le_bytes());
        file[56..58].copy_from_slice(&count.to_le_bytes());
        file[64..64 + headers.len()].copy_from_slice(&headers);
        file
    }
}

/// A bzImage with a setup part of one page, as Linux 6.7 and later make it.
pub(super) fn bzimage(preferred: u64, payload: usize) -> Vec<u8> {
    let mut file = vec![0; 4096];
    file[0x1f1] = 7;
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x200..0x202].copy_from_slice(&[0xeb, 0x6a]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x22c..0x230].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    file[0x236] = 1;
    file[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes());
    file[0x258..0x260].copy_from_slice(&preferred.to_le_bytes());
    file[0x260..0x264].copy_from_slice(&0x8000u32.to_le_bytes());
    file.extend((0..payload).map(|n| (n % 255) as u8));
    file
}

pub(super) fn file_with(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

const MEMORY: u64 = 8 << 20;

fn load(bytes: &[u8], protocol: Option<BootProtocol>) -> Result<(Ram, Kernel), LoadError> {
    let memory = memory::create(MEMORY, &MemoryConfig::default()).unwrap();
    let kernel = load_kernel(&memory, MEMORY, &file_with(bytes), protocol)?;
    Ok((memory, kernel))
}

fn pvh_note(entry: u32) -> Vec<u8> {
    [
        4u32.to_le_bytes(),
        4u32.to_le_bytes(),
        18u32.to_le_bytes(),
        *b"Xen\0",
        entry.to_le_bytes(),
    ]
    .concat()
}

#[test]
fn an_elf_kernel_is_mapped_not_copied() {
    let code: Vec<u8> = (0..300_000u32).map(|n| (n % 253) as u8).collect();
    let elf = ElfFile {
        segments: vec![(0x10_0000, code.clone(), 400_000)],
        ..ElfFile::default()
    };
    let (memory, kernel) = load(&elf.bytes(), None).unwrap();
    assert_eq!(
        (kernel.protocol, kernel.entry),
        (BootProtocol::Linux64, 0x10_0000)
    );
    assert_eq!(kernel.end, 0x10_0000 + 400_000);
    assert!(
        kernel.loaded.copied_bytes < 4096 && kernel.loaded.mapped_bytes > 290_000,
        "{:?}",
        kernel.loaded
    );
    let mut bytes = vec![0; 400_000];
    memory.read_slice(&mut bytes, GuestAddress(0x10_0000)).unwrap();
    assert!(bytes[..300_000] == code && bytes[300_000..].iter().all(|byte| *byte == 0));
}

#[test]
fn pvh_is_used_when_asked_for_and_possible() {
    let mut elf = ElfFile {
        note: Some(pvh_note(0x10_0010)),
        ..ElfFile::default()
    };
    let kernel = load(&elf.bytes(), Some(BootProtocol::Pvh)).unwrap().1;
    assert_eq!((kernel.protocol, kernel.entry), (BootProtocol::Pvh, 0x10_0010));
    assert_eq!(
        load(&elf.bytes(), None).unwrap().1.protocol,
        BootProtocol::Linux64
    );
    elf.note = None;
    let error = load(&elf.bytes(), Some(BootProtocol::Pvh))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no PVH entry note") && error.contains("CONFIG_PVH"),
        "{error}"
    );
}

#[test]
fn a_bzimage_of_a_current_kernel_is_mapped() {
    let (memory, kernel) = load(&bzimage(0x20_0000, 20_000), None).unwrap();
    assert_eq!((kernel.entry, kernel.end), (0x20_0200, 0x20_8000));
    assert_eq!(
        kernel.loaded,
        Loaded {
            mapped_bytes: 16_384,
            copied_bytes: 20_000 - 16_384
        }
    );
    let mut byte = [0];
    memory
        .read_slice(&mut byte, GuestAddress(0x20_0000 + 19_999))
        .unwrap();
    assert_eq!(byte[0], (19_999 % 255) as u8);
}

#[test]
fn what_is_no_kernel_is_refused() {
    let outside = ElfFile {
        entry: 0x30_0000,
        ..ElfFile::default()
    };
    let low = ElfFile {
        entry: 0x8000,
        segments: vec![(0x8000, vec![1; 10], 10)],
        ..ElfFile::default()
    };
    let high = ElfFile {
        entry: MEMORY,
        segments: vec![(MEMORY, vec![1; 10], 10)],
        ..ElfFile::default()
    };
    let cases = [
        (b"#!/bin/sh\n".to_vec(), "neither an ELF vmlinux nor a bzImage"),
        (Vec::new(), "neither"),
        (outside.bytes(), "entry point 0x300000 is in no segment"),
        (low.bytes(), "does not fit between 0x100000 and"),
        (high.bytes(), "give the VM more memory"),
        (bzimage(0x10_0000, 100), "truncated"),
        (bzimage(0x7f_f000, 3000), "does not fit"),
    ];
    for (bytes, expected) in cases {
        let message = load(&bytes, None).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} should contain {expected}");
    }
}
