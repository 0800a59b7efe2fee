//! What this crate packs, other programs can read: an exported image goes to hosts that have GNU tar.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use images::{Compression, Metadata, PackSource, inspect_unified, make_root_disk, pack};

#[test]
fn gnu_tar_unpacks_what_is_packed() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, out) = (scratch.path().join("root"), scratch.path().join("out"));
    let long = "n".repeat(120);
    fs::create_dir_all(root.join(&long)).unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(root.join(&long).join("plain"), "text").unwrap();
    fs::write(root.join(&long).join("marked"), "text").unwrap();
    xattr::set(root.join(&long).join("marked"), "user.note", b"kept").unwrap();
    fs::hard_link(root.join(&long).join("marked"), root.join("alias")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), root.join("link")).unwrap();
    std::os::unix::fs::lchown(root.join(&long).join("plain"), Some(3_000_000), Some(7)).unwrap();
    let metadata = Metadata {
        architecture: "x86_64".into(),
        creation_date: 5,
        ..Metadata::default()
    };
    let source = PackSource {
        rootfs: &root,
        metadata: &metadata,
        templates: None,
    };
    for (compression, option) in [
        (Compression::Gzip, "-z"),
        (Compression::Xz, "-J"),
        (Compression::Zstd, "--zstd"),
    ] {
        let file = scratch.path().join("image");
        let packed = pack(&source, &file, compression).unwrap();
        assert_eq!(inspect_unified(&file).unwrap().fingerprint, packed.fingerprint);
        let done = Command::new("tar")
            .args(["--xattrs", "--xattrs-include=*", "--numeric-owner", option, "-xf"])
            .arg(&file)
            .arg("-C")
            .arg(&out)
            .output()
            .unwrap();
        assert!(
            done.status.success() && done.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        let unpacked = out.join("rootfs");
        let marked = unpacked.join(&long).join("marked");
        assert_eq!(
            xattr::get(&marked, "user.note").unwrap().as_deref(),
            Some(&b"kept"[..])
        );
        assert_eq!(
            fs::metadata(&marked).unwrap().ino(),
            fs::metadata(unpacked.join("alias")).unwrap().ino()
        );
        assert_eq!(
            fs::read_link(unpacked.join("link")).unwrap().as_os_str().len(),
            150
        );
        let plain = fs::metadata(unpacked.join(&long).join("plain")).unwrap();
        assert_eq!((plain.uid(), plain.gid()), (3_000_000, 7));
    }
}

#[test]
fn the_same_tree_packs_to_the_same_fingerprint() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    for name in ["c", "a", "b"] {
        fs::write(root.join("etc").join(name), name).unwrap();
    }
    let metadata = Metadata {
        architecture: "x86_64".into(),
        ..Metadata::default()
    };
    let source = PackSource {
        rootfs: &root,
        metadata: &metadata,
        templates: None,
    };
    let file = scratch.path().join("image");
    let first = pack(&source, &file, Compression::Gzip).unwrap();
    assert_eq!(pack(&source, &file, Compression::Gzip).unwrap(), first);
}

#[test]
fn what_cannot_be_packed_leaves_no_file() {
    let scratch = tempfile::tempdir().unwrap();
    let metadata = Metadata {
        architecture: "x86_64".into(),
        ..Metadata::default()
    };
    let missing = scratch.path().join("missing");
    let source = PackSource {
        rootfs: &missing,
        metadata: &metadata,
        templates: None,
    };
    let file = scratch.path().join("image");
    assert!(pack(&source, &file, Compression::None).is_err());
    assert!(!file.exists());
}

#[test]
fn a_root_disk_passes_the_file_system_check() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, disk) = (scratch.path().join("root"), scratch.path().join("disk"));
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/tool"), vec![1; 100_000]).unwrap();
    xattr::set(root.join("bin/tool"), "user.note", b"kept").unwrap();
    make_root_disk(&root, &disk, 128 << 20).unwrap();
    let check = Command::new("e2fsck")
        .args(["-f", "-n"])
        .arg(&disk)
        .output()
        .unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    assert!(
        fs::metadata(&disk).unwrap().blocks() * 512 < 32 << 20,
        "the disk is not sparse"
    );
    let listed = Command::new("debugfs")
        .args(["-R", "ea_list /bin/tool"])
        .arg(&disk)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("user.note"));
}
