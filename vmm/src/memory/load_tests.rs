//! Guest memory and the files in it.

use super::*;
use crate::config::MemoryConfig;
use crate::memory::{create, write};
use std::io::Write;
use vm_memory::Bytes;

fn file_with(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(memory: &Ram, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

#[test]
fn congruent_ranges_are_mapped_and_their_neighbours_are_untouched() {
    let bytes: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8 + 1).collect();
    let file = file_with(&bytes);
    let memory = create(4 << 20, &MemoryConfig::default()).unwrap();
    let loaded = load_file(&memory, &file, 20_000, 100, 0x10_0064, 15_000).unwrap();
    assert_eq!(
        loaded,
        Loaded {
            mapped_bytes: 8192,
            copied_bytes: 15_000 - 8192
        }
    );
    assert_eq!(read(&memory, 0x10_0064, 15_000), bytes[100..15_100]);
    assert_eq!(read(&memory, 0x10_0000, 100), [0; 100]);
    assert_eq!(read(&memory, 0x10_0064 + 15_000, 4096), [0; 4096]);
}

#[test]
fn writes_of_the_guest_do_not_reach_the_file() {
    let file = file_with(&[7; 8192]);
    let memory = create(4 << 20, &MemoryConfig::default()).unwrap();
    load_file(&memory, &file, 8192, 0, 0x20_0000, 8192).unwrap();
    write(&memory, 0x20_0000, &[9; 8192]).unwrap();
    let mut bytes = [0; 8192];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [7; 8192]);
}

#[test]
fn shared_memory_holds_copies_that_others_see() {
    let file = file_with(&[7; 8192]);
    let config = MemoryConfig {
        shared: true,
        ..Default::default()
    };
    let memory = create(4 << 20, &config).unwrap();
    let loaded = load_file(&memory, &file, 8192, 0, 0x20_0000, 8192).unwrap();
    assert_eq!((loaded.mapped_bytes, loaded.copied_bytes), (0, 8192));
    let place = memory.iter().next().unwrap().file_offset().unwrap();
    let mut bytes = [0; 8192];
    place.file().read_exact_at(&mut bytes, 0x20_0000).unwrap();
    assert_eq!(bytes, [7; 8192]);
}

#[test]
fn incongruent_ranges_are_copied() {
    let file = file_with(&[5; 9000]);
    let memory = create(4 << 20, &MemoryConfig::default()).unwrap();
    let loaded = load_file(&memory, &file, 9000, 1, 0x10_0000, 8999).unwrap();
    assert_eq!(
        loaded,
        Loaded {
            mapped_bytes: 0,
            copied_bytes: 8999
        }
    );
    assert_eq!(read(&memory, 0x10_0000, 8999), [5; 8999]);
}

#[test]
fn ranges_beyond_the_file_or_the_memory_are_refused() {
    let file = file_with(&[5; 9000]);
    let memory = create(4 << 20, &MemoryConfig::default()).unwrap();
    let truncated = load_file(&memory, &file, 9000, 4096, 0x10_0000, 8192).unwrap_err();
    assert!(truncated.to_string().contains("truncated"), "{truncated}");
    for address in [4 << 20, (4 << 20) - 4096, u64::MAX - 100] {
        let outside = load_file(&memory, &file, 9000, 0, address, 8192).unwrap_err();
        assert!(outside.to_string().contains("more memory"), "{outside}");
    }
    load_file(&memory, &file, 9000, u64::MAX, 0, 2).unwrap_err();
}
