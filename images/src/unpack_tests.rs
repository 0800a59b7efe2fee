use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;
use crate::{Compression, ImageKind, inspect_split, inspect_unified, make_root_disk, pack_unified};

const METADATA: &str = "architecture: x86_64\nproperties:\n  os: Test\n";

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn run(limits: Limits, meta: &Path, rootfs: Option<&Path>, dest: &Path) -> Result<()> {
    fs::create_dir_all(dest).unwrap();
    unpack_within(meta, rootfs, dest, &limits, &mut |_| {}, &AtomicBool::new(false))
}

/// A tar file made entry by entry, also of what no tool would write.
fn archive(path: &Path, entries: &[(&str, EntryType, &str)]) {
    let mut builder = Builder::new(fs::File::create(path).unwrap());
    for (name, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        let link = matches!(kind, EntryType::Symlink | EntryType::Link);
        header.set_size(if link { 0 } else { content.len() as u64 });
        let raw = &mut header.as_old_mut().name;
        raw[..name.len()].copy_from_slice(name.as_bytes());
        if link {
            header.set_link_name_literal(content).unwrap();
        }
        header.set_cksum();
        builder
            .append(&header, if link { &b""[..] } else { content.as_bytes() })
            .unwrap();
    }
    builder.into_inner().unwrap();
}

fn sample_tree(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("etc/empty")).unwrap();
    fs::write(root.join("bin/tool"), vec![7; 100_000]).unwrap();
    fs::set_permissions(root.join("bin/tool"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("bin/tool"), root.join("bin/tool2")).unwrap();
    std::os::unix::fs::symlink("/absolute/elsewhere", root.join("etc/link")).unwrap();
    std::os::unix::fs::chown(root.join("etc/empty"), Some(1000), Some(100)).unwrap();
    nix::unistd::mkfifo(
        &root.join("etc/fifo"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    xattr::set(root.join("bin/tool"), "user.note", b"kept").unwrap();
}

fn check_sample_tree(root: &Path) {
    let tool = fs::metadata(root.join("bin/tool")).unwrap();
    assert_eq!(
        (tool.len(), tool.mode() & 0o7777, tool.nlink()),
        (100_000, 0o4755, 2)
    );
    assert_eq!(tool.ino(), fs::metadata(root.join("bin/tool2")).unwrap().ino());
    assert_eq!(
        fs::read_link(root.join("etc/link")).unwrap(),
        Path::new("/absolute/elsewhere")
    );
    let empty = fs::metadata(root.join("etc/empty")).unwrap();
    assert_eq!((empty.uid(), empty.gid()), (1000, 100));
    assert!(fs::metadata(root.join("etc/fifo")).unwrap().file_type().is_fifo());
    assert_eq!(
        xattr::get(root.join("bin/tool"), "user.note").unwrap().as_deref(),
        Some(&b"kept"[..])
    );
}

#[test]
fn what_is_packed_comes_back_the_same_in_every_compression() {
    let scratch = folder();
    let tree = scratch.path().join("tree");
    sample_tree(&tree.join("rootfs"));
    fs::write(tree.join("metadata.yaml"), METADATA).unwrap();
    for compression in [
        Compression::None,
        Compression::Gzip,
        Compression::Xz,
        Compression::Zstd,
    ] {
        let file = scratch.path().join(format!("image{}", compression.tar_ending()));
        let packed = pack_unified(&tree, &file, compression).unwrap();
        let info = inspect_unified(&file).unwrap();
        assert_eq!((info.fingerprint, info.size), (packed.fingerprint, packed.size));
        assert_eq!(info.kind, ImageKind::Container);
        assert_eq!(info.properties["os"], "Test");
        let dest = scratch.path().join(format!("out{}", compression.tar_ending()));
        run(Limits::default(), &file, None, &dest).unwrap();
        check_sample_tree(&dest.join("rootfs"));
    }
}

#[test]
fn images_of_the_usual_tools_are_read() {
    let scratch = folder();
    let root = scratch.path().join("tree/rootfs");
    sample_tree(&root);
    fs::write(scratch.path().join("tree/metadata.yaml"), METADATA).unwrap();
    let sh = |line: &str| {
        let status = Command::new("sh")
            .args(["-ec", line])
            .current_dir(scratch.path())
            .status()
            .unwrap();
        assert!(status.success(), "{line}");
    };
    sh("tar --xattrs -C tree -cJf unified.tar.xz metadata.yaml rootfs");
    sh(
        "tar -C tree -czf meta.tar.gz metadata.yaml; mksquashfs tree/rootfs root.squashfs -quiet -no-progress",
    );
    sh("tar --xattrs -C tree/rootfs -czf root.tar.gz .");
    let path = |name: &str| scratch.path().join(name);
    run(Limits::default(), &path("unified.tar.xz"), None, &path("a")).unwrap();
    check_sample_tree(&path("a/rootfs"));
    for (rootfs, dest) in [("root.squashfs", "b"), ("root.tar.gz", "c")] {
        let info = inspect_split(&path("meta.tar.gz"), &path(rootfs)).unwrap();
        let hash = Command::new("sh")
            .args(["-c", "cat meta.tar.gz \"$1\" | sha256sum", "sh", rootfs])
            .current_dir(scratch.path())
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&hash.stdout).starts_with(&info.fingerprint));
        assert_eq!(info.kind, ImageKind::Container);
        run(
            Limits::default(),
            &path("meta.tar.gz"),
            Some(&path(rootfs)),
            &path(dest),
        )
        .unwrap();
        check_sample_tree(&path(dest).join("rootfs"));
    }
}

#[test]
fn no_entry_leaves_the_folder() {
    let scratch = folder();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let outside_text = outside.to_string_lossy().into_owned();
    let file = scratch.path().join("evil.tar");
    let metadata = ("metadata.yaml", EntryType::Regular, METADATA);
    // Through a link, absolute, with dots, and by a hard link to a file of the host.
    let cases: [Vec<(&str, EntryType, &str)>; 5] = [
        vec![
            metadata,
            ("rootfs/a", EntryType::Symlink, &outside_text),
            ("rootfs/a/f", EntryType::Regular, "x"),
        ],
        vec![metadata, ("rootfs/../../outside/f", EntryType::Regular, "x")],
        vec![
            metadata,
            ("rootfs", EntryType::Symlink, &outside_text),
            ("rootfs/f", EntryType::Regular, "x"),
        ],
        vec![
            metadata,
            ("rootfs/h", EntryType::Link, "../../../../../../etc/passwd"),
        ],
        vec![metadata, ("rootfs/h", EntryType::Link, "/etc/passwd")],
    ];
    for (number, entries) in cases.iter().enumerate() {
        archive(&file, entries);
        let dest = scratch.path().join(format!("dest{number}"));
        let _ = run(Limits::default(), &file, None, &dest);
        assert_eq!(
            fs::read_dir(&outside).unwrap().count(),
            0,
            "case {number} wrote outside"
        );
        let linked = dest.join("rootfs/h").symlink_metadata().is_ok();
        assert!(!linked, "case {number} linked a file of the host");
    }
}

#[test]
fn an_image_that_is_too_large_is_refused() {
    let scratch = folder();
    let file = scratch.path().join("large.tar");
    let content = "y".repeat(10_000);
    archive(
        &file,
        &[
            ("metadata.yaml", EntryType::Regular, METADATA),
            ("rootfs/f", EntryType::Regular, &content),
        ],
    );
    let limits = Limits {
        bytes: 5_000,
        ..Limits::default()
    };
    let err = run(limits, &file, None, &scratch.path().join("a")).unwrap_err();
    assert!(
        matches!(
            err,
            Error::TooLarge {
                what: "bytes",
                limit: 5_000
            }
        ),
        "{err}"
    );
    let limits = Limits {
        entries: 1,
        ..Limits::default()
    };
    let err = run(limits, &file, None, &scratch.path().join("b")).unwrap_err();
    assert!(matches!(err, Error::TooLarge { what: "entries", .. }), "{err}");
}

#[test]
fn cancelling_ends_the_work() {
    let scratch = folder();
    let file = scratch.path().join("i.tar");
    archive(
        &file,
        &[
            ("metadata.yaml", EntryType::Regular, METADATA),
            ("rootfs/f", EntryType::Regular, "x"),
        ],
    );
    let dest = scratch.path().join("d");
    fs::create_dir(&dest).unwrap();
    let err = unpack(&file, None, &dest, &mut |_| {}, &AtomicBool::new(true)).unwrap_err();
    assert!(matches!(err, Error::Cancelled), "{err}");
}

#[test]
fn what_is_no_image_is_named() {
    let scratch = folder();
    let file = scratch.path().join("text");
    fs::write(&file, "hello").unwrap();
    let err = inspect_unified(&file).unwrap_err();
    assert!(
        err.is_invalid_image() && err.to_string().contains("text"),
        "{err}"
    );
    archive(&file, &[("rootfs/f", EntryType::Regular, "x")]);
    assert!(
        inspect_unified(&file)
            .unwrap_err()
            .to_string()
            .contains("metadata.yaml")
    );
    archive(&file, &[("metadata.yaml", EntryType::Regular, METADATA)]);
    assert!(inspect_unified(&file).unwrap_err().to_string().contains("rootfs"));
}

#[test]
fn a_root_disk_holds_the_tree() {
    let scratch = folder();
    let root = scratch.path().join("tree");
    sample_tree(&root);
    let disk = scratch.path().join("disk.raw");
    make_root_disk(&root, &disk, 64 << 20).unwrap();
    assert_eq!(fs::metadata(&disk).unwrap().len(), 64 << 20);
    let output = Command::new("debugfs")
        .args(["-R", "stat /bin/tool"])
        .arg(&disk)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Size: 100000") && text.contains("04755"), "{text}");
    let small = scratch.path().join("small.raw");
    fs::write(root.join("big"), vec![1; 8 << 20]).unwrap();
    assert!(make_root_disk(&root, &small, 4 << 20).is_err());
    assert!(!small.exists());
}

#[test]
fn a_disk_image_becomes_raw_and_may_not_refer_to_other_files() {
    let scratch = folder();
    let path = |name: &str| scratch.path().join(name);
    let qemu_img = |arguments: &[&str]| {
        let status = Command::new("qemu-img")
            .args(arguments)
            .current_dir(scratch.path())
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
    };
    qemu_img(&["create", "-q", "-f", "qcow2", "a.qcow2", "8M"]);
    crate::convert_disk(&path("a.qcow2"), &path("a.raw")).unwrap();
    assert_eq!(fs::metadata(path("a.raw")).unwrap().len(), 8 << 20);
    qemu_img(&[
        "create", "-q", "-f", "qcow2", "-b", "a.raw", "-F", "raw", "b.qcow2",
    ]);
    let err = crate::convert_disk(&path("b.qcow2"), &path("b.raw")).unwrap_err();
    assert!(err.to_string().contains("another file"), "{err}");
    assert!(!path("b.raw").exists());
}
