//! Images that arrive damaged, by accident or on purpose: they end with an error, quickly, and touch nothing beside their folder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use images::{Compression, Limits, inspect_split, inspect_unified, pack_unified, unpack_within};
use proptest::prelude::*;
use proptest::sample::Index;

const METADATA: &str =
    "architecture: x86_64\ntemplates:\n  /etc/hosts:\n    when: [create]\n    template: hosts.tpl\n";

/// A small image with something of everything in it, in a compression.
fn image(compression: Compression) -> Vec<u8> {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("rootfs/etc/deep/er")).unwrap();
    fs::create_dir(tree.join("templates")).unwrap();
    fs::write(tree.join("metadata.yaml"), METADATA).unwrap();
    fs::write(tree.join("templates/hosts.tpl"), "127.0.0.1 localhost\n").unwrap();
    fs::write(
        tree.join("rootfs/etc/passwd"),
        "root:x:0:0::/:/bin/sh\n".repeat(100),
    )
    .unwrap();
    fs::hard_link(tree.join("rootfs/etc/passwd"), tree.join("rootfs/etc/passwd-")).unwrap();
    std::os::unix::fs::symlink("../../../../etc", tree.join("rootfs/link")).unwrap();
    fs::write(tree.join("rootfs").join("n".repeat(150)), "long").unwrap();
    let file = scratch.path().join("image");
    pack_unified(&tree, &file, compression).unwrap();
    fs::read(file).unwrap()
}

fn plain() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| image(Compression::None))
}

/// Inspects and unpacks some bytes as an image, alone and as the root of a split one; panics if anything appears beside the destination.
fn try_all(bytes: &[u8]) {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { scratch.path().join(name) };
    fs::write(path("image"), bytes).unwrap();
    fs::write(path("meta"), plain()).unwrap();
    let limits = Limits {
        bytes: 1 << 20,
        entries: 200,
    };
    let unpack = |meta: &Path, root: Option<&Path>, dest: &Path| {
        fs::create_dir(dest).unwrap();
        let _ = unpack_within(meta, root, dest, &limits, &mut |_| {}, &AtomicBool::new(false));
    };
    let _ = inspect_unified(&path("image"));
    let _ = inspect_split(&path("meta"), &path("image"));
    unpack(&path("image"), None, &path("alone"));
    unpack(&path("meta"), Some(&path("image")), &path("split"));
    let mut names: Vec<_> = fs::read_dir(scratch.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["alone", "image", "meta", "split"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_do_no_harm(changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8)) {
        let mut bytes = plain().to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        try_all(&bytes);
    }

    #[test]
    fn headers_with_true_checksums_but_false_fields_do_no_harm(
        block in any::<Index>(),
        field in prop_oneof![Just((0usize, 100usize)), Just((100, 8)), Just((108, 8)), Just((124, 12)), Just((156, 1)), Just((157, 100))],
        value in proptest::collection::vec(any::<u8>(), 100),
    ) {
        let mut bytes = plain().to_vec();
        // Any block will do: those that are no header become one.
        let at = block.index(bytes.len() / 512) * 512;
        let header = &mut bytes[at..at + 512];
        header[field.0..field.0 + field.1].copy_from_slice(&value[..field.1]);
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        try_all(&bytes);
    }
}

#[test]
fn an_image_cut_short_anywhere_is_refused() {
    for compression in [Compression::Gzip, Compression::Xz, Compression::Zstd] {
        let whole = image(compression);
        for part in 1..8 {
            let scratch = tempfile::tempdir().unwrap();
            let (file, dest) = (scratch.path().join("image"), scratch.path().join("dest"));
            fs::write(&file, &whole[..whole.len() * part / 8]).unwrap();
            fs::create_dir(&dest).unwrap();
            let limits = Limits::default();
            let outcome = unpack_within(&file, None, &dest, &limits, &mut |_| {}, &AtomicBool::new(false));
            assert!(
                outcome.is_err_and(|error| error.is_invalid_image()),
                "{compression:?}, {part}/8"
            );
        }
    }
}

#[test]
fn a_squashfs_with_changed_bytes_does_no_harm() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, file) = (scratch.path().join("tree"), scratch.path().join("root"));
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/file"), "x".repeat(5000)).unwrap();
    let made = Command::new("mksquashfs")
        .arg(&tree)
        .arg(&file)
        .args(["-quiet", "-no-progress", "-comp", "gzip"])
        .status();
    assert!(made.unwrap().success());
    let whole = fs::read(&file).unwrap();
    // The superblock is the part that a tool believes first.
    for at in (4..96).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        try_all(&bytes);
    }
    try_all(&whole[..whole.len() / 2]);
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("rootfs")).unwrap();
    fs::write(tree.join("metadata.yaml"), METADATA).unwrap();
    fs::File::create(tree.join("rootfs/zeroes"))
        .unwrap()
        .set_len(256 << 20)
        .unwrap();
    let (file, dest) = (scratch.path().join("image"), scratch.path().join("dest"));
    pack_unified(&tree, &file, Compression::Zstd).unwrap();
    assert!(fs::metadata(&file).unwrap().len() < 1 << 20);
    fs::create_dir(&dest).unwrap();
    let limits = Limits {
        bytes: 1 << 20,
        entries: 100,
    };
    let error = unpack_within(&file, None, &dest, &limits, &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
    assert!(
        error.to_string().contains("exceeds the limit of 1048576 bytes"),
        "{error}"
    );
}

#[test]
fn cancelling_stops_within_a_large_file() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("rootfs")).unwrap();
    fs::write(tree.join("metadata.yaml"), METADATA).unwrap();
    fs::write(tree.join("rootfs/large"), vec![1; 32 << 20]).unwrap();
    let (file, dest) = (scratch.path().join("image"), scratch.path().join("dest"));
    pack_unified(&tree, &file, Compression::None).unwrap();
    fs::create_dir(&dest).unwrap();
    let cancel = AtomicBool::new(false);
    let mut last = 0;
    let mut progress = |read| {
        assert!(read >= last, "progress went back");
        last = read;
        if read > 4 << 20 {
            cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    };
    let error = unpack_within(&file, None, &dest, &Limits::default(), &mut progress, &cancel).unwrap_err();
    assert!(matches!(error, images::Error::Cancelled), "{error}");
    assert!(last < 8 << 20, "it went on to {last}");
}
