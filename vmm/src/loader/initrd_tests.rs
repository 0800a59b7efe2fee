//! Several archives as one initrd.

use super::super::tests::file_with;
use super::*;
use crate::config::MemoryConfig;
use vm_memory::{Bytes, GuestAddress};

const MEMORY: u64 = 8 << 20;

#[test]
fn archives_follow_each_other_at_page_boundaries_at_the_top_of_memory() {
    let memory = memory::create(MEMORY, &MemoryConfig::default()).unwrap();
    let files = [file_with(&[1; 5000]), file_with(&[2; 100])];
    let initrd = load(&memory, MEMORY, 0x20_0000, u64::MAX, &files)
        .unwrap()
        .unwrap();
    assert_eq!(initrd.bytes, 8192 + 100);
    assert_eq!(initrd.address, MEMORY - 3 * PAGE);
    let mut bytes = vec![0; 8292];
    memory
        .read_slice(&mut bytes, GuestAddress(initrd.address))
        .unwrap();
    assert!(bytes[..5000].iter().all(|b| *b == 1) && bytes[5000..8192].iter().all(|b| *b == 0));
    assert!(bytes[8192..].iter().all(|b| *b == 2));
    assert_eq!(initrd.loaded.mapped_bytes, 4096);
}

#[test]
fn the_kernels_limit_is_kept() {
    let memory = memory::create(MEMORY, &MemoryConfig::default()).unwrap();
    let initrd = load(&memory, MEMORY, 0x10_0000, 0x3f_ffff, &[file_with(&[1; 4097])])
        .unwrap()
        .unwrap();
    assert_eq!(initrd.address + 2 * PAGE, 0x40_0000);
}

#[test]
fn nothing_is_no_initrd_and_too_much_is_refused() {
    let memory = memory::create(MEMORY, &MemoryConfig::default()).unwrap();
    assert_eq!(load(&memory, MEMORY, 0x10_0000, u64::MAX, &[]).unwrap(), None);
    assert_eq!(
        load(&memory, MEMORY, 0x10_0000, u64::MAX, &[file_with(b"")]).unwrap(),
        None
    );
    let error = load(&memory, MEMORY, MEMORY - 4096, u64::MAX, &[file_with(&[1; 5000])]).unwrap_err();
    assert!(
        error.to_string().contains("an initrd of 5000 bytes does not fit"),
        "{error}"
    );
}
