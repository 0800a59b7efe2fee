//! Any bytes as an image, used as a guest would use its disk: reads, writes, zeroes, discards, growth.
#![no_main]

use devices::virtio::block::qcow2::{Qcow2, Source, Target};
use devices::virtio::block::HostFile;
use libfuzzer_sys::fuzz_target;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

fuzz_target!(|input: &[u8]| {
    let Some((steps, bytes)) = input.split_at_checked(16) else { return };
    let file = tempfile::tempfile().expect("a temporary file");
    file.write_all_at(bytes, 0).expect("an image");
    let file = Arc::new(HostFile::new(file).expect("an image"));
    let Ok(mut image) = Qcow2::open(file, 0, true, None) else { return };
    let size = image.size();
    for step in steps {
        let at = (u64::from(*step) << 9) % size.max(512);
        let len = (size - at.min(size)).min(u64::from(*step & 31) << 9);
        if len == 0 {
            continue;
        }
        match step % 6 {
            0 => {
                if let Ok(source) = image.map_read(at, len) {
                    assert!(!source.is_empty() && source.len() <= len);
                    if let Source::Bytes(bytes) = source {
                        assert!(!bytes.is_empty());
                    }
                }
            }
            1 => {
                if let Ok(Target::File { len: here, allocation, .. }) = image.map_write(at, len) {
                    assert!(here > 0 && here <= len);
                    if let Some(allocation) = allocation {
                        let _ = image.end_write(&allocation, step & 64 == 0);
                    }
                }
            }
            2 => drop(image.zero(at..at + len, step & 64 == 0)),
            3 => drop(image.discard(at..at + len)),
            4 => drop(image.grow(size + at)),
            _ => drop(image.write_back()),
        }
    }
    let _ = image.write_back();
});
