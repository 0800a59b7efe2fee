//! ELF headers, good and bad.

use super::super::tests::{ElfFile, file_with};
use super::*;

#[test]
fn segments_and_entry_are_found() {
    let file = ElfFile {
        segments: vec![(0x10_0000, vec![1; 5000], 9000)],
        ..ElfFile::default()
    };
    let kernel = read(&file_with(&file.bytes())).unwrap();
    assert_eq!(kernel.entry, 0x10_0000);
    assert_eq!(kernel.pvh_entry, None);
    let segment = kernel.segments[0];
    assert_eq!(
        (segment.address, segment.file_bytes, segment.memory_bytes),
        (0x10_0000, 5000, 9000)
    );
}

#[test]
fn the_pvh_entry_is_found_behind_other_notes() {
    let note = |name: &[u8], kind: u32, desc: &[u8]| {
        let mut bytes = Vec::new();
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((desc.len() as u32).to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        for part in [name, desc] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    };
    let entry = 0x10_0040u32.to_le_bytes();
    let notes = [
        note(b"GNU\0", 18, &entry),
        note(b"Linux\0", 1, b"abc"),
        note(b"Xen\0", 18, &entry),
    ]
    .concat();
    assert_eq!(pvh_entry(&notes), Some(0x10_0040));
    assert_eq!(
        pvh_entry(&notes[..notes.len() - 1]),
        None,
        "a cut note is not read"
    );
    assert_eq!(pvh_entry(&note(b"Xen\0", 18, &[0; 3])), None);
    assert_eq!(pvh_entry(&note(b"Xen\0", 18, &(1u64 << 32).to_le_bytes())), None);
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, &str); 9] = [
        (|b| b[4] = 1, "64-bit little-endian"),
        (|b| b[18] = 40, "not an x86-64 kernel"),
        (|b| b[16] = 1, "not an x86-64 kernel"),
        (|b| b[54] = 32, "program headers of 32 bytes"),
        (|b| b[56] = 0, "0 program headers"),
        (|b| b[57] = 255, "program headers"),
        (|b| b[32..40].fill(0xff), "truncated"),
        // memory size of the first segment: less than what the file has, then more than the address space
        (|b| b[64 + 40..64 + 48].fill(0), "for 0 bytes of memory"),
        (|b| b[64 + 40..64 + 48].fill(0xff), "has no end"),
    ];
    for (change, expected) in cases {
        let mut bytes = ElfFile::default().bytes();
        change(&mut bytes);
        let message = read(&file_with(&bytes)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} should contain {expected}");
    }
    let overlapping = ElfFile {
        segments: vec![(0x10_0000, vec![1; 100], 0x2000), (0x10_1000, vec![1; 100], 100)],
        ..ElfFile::default()
    };
    assert!(
        read(&file_with(&overlapping.bytes()))
            .unwrap_err()
            .to_string()
            .contains("overlap")
    );
    assert!(matches!(read(&file_with(b"\x7fELF")), Err(LoadError::Truncated)));
}

proptest::proptest! {
    #[test]
    fn any_headers_are_read_or_refused_without_a_panic(mut bytes in proptest::collection::vec(0u8.., 64..600)) {
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16..20].copy_from_slice(&[2, 0, 62, 0]);
        bytes[32..40].copy_from_slice(&64u64.to_le_bytes());
        bytes[54..58].copy_from_slice(&[56, 0, 3, 0]);
        let _ = read(&file_with(&bytes));
    }
}
