//! bzImage setup headers, good and bad.

use super::super::tests::bzimage;
use super::*;

#[test]
fn the_protected_mode_part_is_found() {
    let file = bzimage(0x10_0000, 3000);
    let image = parse(&file, file.len() as u64).unwrap();
    assert_eq!((image.offset, image.file_bytes), (4096, 3000));
    assert_eq!((image.address, image.entry), (0x10_0000, 0x10_0200));
    assert_eq!(image.header.len(), 0x26c - 0x1f1);
    assert_eq!(image.memory_bytes, 0x8000);
    assert_eq!(image.cmdline_max, 2047);
}

#[test]
fn kernels_that_cannot_be_entered_in_64_bit_mode_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(Change, &str); 6] = [
        (|b| b[0x206] = 0x0b, "boot protocol 2.11 without a 64-bit entry"),
        (|b| b[0x236] = 0, "without a 64-bit entry"),
        (|b| b[0x211] = 0, "zImage"),
        (|b| b[0x1f1] = 40, "truncated"),
        (|b| b[0x201] = 0x10, "setup header ends at 0x212"),
        (|b| b[0x258..0x260].fill(0xff), "0xffffffffffffffff"),
    ];
    for (change, expected) in cases {
        let mut bytes = bzimage(0x10_0000, 3000);
        change(&mut bytes);
        let message = parse(&bytes, bytes.len() as u64).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} should contain {expected}");
    }
}

proptest::proptest! {
    #[test]
    fn any_header_is_read_or_refused_without_a_panic(mut bytes in proptest::collection::vec(0u8.., 0x206..0x400), len: u64) {
        bytes[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        let _ = parse(&bytes, len);
    }
}
