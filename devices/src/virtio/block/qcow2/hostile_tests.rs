//! Images that are damaged, or made by someone who means harm.

use super::test_image::{create, open_file};
use super::*;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// A valid image with a bit of everything in it, and where its tables are.
fn image(folder: &Path) -> Vec<u8> {
    let path = create(folder, "disk.qcow2", &["-o", "cluster_size=512", "256k"]);
    let mut image = Qcow2::open(open_file(&path, true), 0, true, None).unwrap();
    image.test_write(0, &[1; 40 << 10]);
    image.zero(8 << 10..16 << 10, false).unwrap();
    image.discard(20 << 10..24 << 10).unwrap();
    image.write_back().unwrap();
    image.write_back().unwrap();
    fs::read(path).unwrap()
}

/// Uses an image as a guest would, whatever becomes of it.
fn use_up(bytes: &[u8]) -> Result<(), Qcow2Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let mut image = Qcow2::open(open_file(file.path(), true), 0, true, None)?;
    let size = image.size();
    let mut buffer = vec![0; 8192];
    for at in [0, 4096, 20 << 10, size.saturating_sub(8192)] {
        if at + 8192 <= size {
            let _ = image.try_read(at, &mut buffer);
            let _ = image.try_write(at + 512, &buffer[..4096]);
            let _ = image.zero(at..at + 1024, at == 0);
            let _ = image.discard(at..at + 8192);
        }
    }
    let _ = image.write_back();
    let _ = image.grow(size.saturating_add(1 << 20));
    let _ = image.write_back();
    Ok(())
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let good = image(folder.path());
    use_up(&good).unwrap();
    let cases: [(usize, &[u8], &str); 14] = [
        (0, b"QFX", "no qcow2 image"),
        (4, &[0, 0, 0, 9], "version 9"),
        (20, &[0, 0, 0, 63], "cluster_bits is 63"),
        (20, &[0, 0, 0, 8], "cluster_bits is 8"),
        (24, &[0x7f; 8], "size is"),
        (32, &[0, 0, 0, 1], "is encrypted"),
        (36, &[0, 0, 0, 0], "l1_size is 0"),
        (40, &[0, 0, 0, 0, 0, 0, 2, 1], "l1_table_offset is 513"),
        (48, &[0xff; 8], "refcount_table_offset is"),
        (56, &[0xff; 4], "refcount_table_clusters is"),
        (
            72,
            &[0, 0, 0, 0, 0, 0, 0, 2],
            "is marked corrupt; repair it with `qemu-img check -r all`",
        ),
        (72, &[0, 0, 0, 0, 0, 0, 0, 1], "defers refcounts; repair it"),
        (72, &[0, 0, 0, 0, 0, 0, 0, 4], "external file"),
        (96, &[0, 0, 0, 7], "refcount_order is 7"),
    ];
    for (at, value, expected) in cases {
        let mut bytes = good.clone();
        set(&mut bytes, at, value);
        let error = use_up(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    }
    for len in [0, 3, 71, 103] {
        assert!(use_up(&good[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_dirty_image_can_still_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = image(folder.path());
    bytes[79] = 1;
    let path = folder.path().join("dirty");
    fs::write(&path, bytes).unwrap();
    let mut image = Qcow2::open(open_file(&path, false), 0, false, None).unwrap();
    assert_eq!(image.test_read(0, 512), [1; 512]);
}

#[test]
fn tables_that_lead_into_themselves_and_refcounts_that_lie_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let good = image(folder.path());
    let be64 = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap()) as usize;
    let (l1, refcounts) = (be64(40), be64(48));
    let block = be64(refcounts);
    // The L1 table as its own L2 table, the header as a table, tables beyond the end.
    for target in [l1 as u64 | 1 << 63, 512, 1 << 40, (1 << 55) | 1 << 63, u64::MAX] {
        let mut bytes = good.clone();
        set(&mut bytes, l1, &target.to_be_bytes());
        let _ = use_up(&bytes);
        let mut bytes = good.clone();
        set(&mut bytes, refcounts, &target.to_be_bytes());
        let _ = use_up(&bytes);
    }
    // Everything is free, or nothing is.
    for byte in [0, 0xff] {
        let mut bytes = good.clone();
        bytes[block..block + 512].fill(byte);
        let _ = use_up(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_image_makes_the_reader_fall_over(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        words in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u64>(), Just(0), Just(u64::MAX), (0u64..200).prop_map(|cluster| (cluster * 512) | (1 << 63)),
            (0u64..200).prop_map(|cluster| (cluster * 512) | (1 << 62)),
        ]), 0..8),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = image(folder.path());
        // Never the sizes of clusters and disk alone: the interesting parts come behind the header.
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        for (index, word) in words {
            let at = index.index(bytes.len() / 8) * 8;
            set(&mut bytes, at, &word.to_be_bytes());
        }
        let _ = use_up(&bytes);
    }
}
