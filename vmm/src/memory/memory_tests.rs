//! How guest memory is made.

use super::*;
use std::os::unix::fs::FileExt;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

const SHARED: MemoryConfig = MemoryConfig { shared: true };

#[test]
fn private_memory_has_no_descriptor() {
    let memory = create(4 << 20, &MemoryConfig::default()).unwrap();
    assert!(memory.iter().all(|region| region.file_offset().is_none()));
}

#[test]
fn every_region_of_shared_memory_lies_in_the_file_it_names() {
    let memory = create(5 << 30, &SHARED).unwrap();
    let mut offset = 0;
    for region in memory.iter() {
        let place = region.file_offset().expect("a file");
        assert_eq!(place.start(), offset);
        offset += region.len();
        write(&memory, region.start_addr().0 + 100, b"guest").unwrap();
        let mut bytes = [0; 5];
        place
            .file()
            .read_exact_at(&mut bytes, place.start() + 100)
            .unwrap();
        assert_eq!(&bytes, b"guest");
        place.file().write_all_at(b"other", place.start() + 200).unwrap();
        memory
            .read_slice(&mut bytes, GuestAddress(region.start_addr().0 + 200))
            .unwrap();
        assert_eq!(&bytes, b"other");
    }
    assert_eq!((memory.num_regions(), offset), (2, 5 << 30));
}

#[test]
fn nobody_changes_the_length_of_shared_memory() {
    let memory = create(4 << 20, &SHARED).unwrap();
    let region = memory.iter().next().unwrap();
    let file = region.file_offset().unwrap().file();
    for len in [0, 4096, 8 << 20] {
        let error = file.set_len(len).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{len}: {error}");
    }
}
