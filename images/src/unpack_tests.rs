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

#[test]
fn names_that_the_daemon_uses_may_not_be_links() {
    let scratch = folder();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let outside_text = outside.to_string_lossy().into_owned();
    let file = scratch.path().join("evil.tar");
    let metadata = ("metadata.yaml", EntryType::Regular, METADATA);
    let root = ("rootfs/f", EntryType::Regular, "x");
    let cases = [
        vec![
            metadata,
            root,
            ("metadata.yaml", EntryType::Symlink, "/etc/shadow"),
        ],
        vec![metadata, root, ("templates", EntryType::Symlink, &outside_text)],
        vec![metadata, ("rootfs", EntryType::Symlink, &outside_text)],
        vec![metadata, ("rootfs.img", EntryType::Symlink, "/etc/passwd")],
        vec![
            metadata,
            root,
            ("metadata.yaml", EntryType::Regular, "architecture: vax\n"),
        ],
    ];
    for (number, entries) in cases.iter().enumerate() {
        archive(&file, entries);
        let dest = scratch.path().join(format!("dest{number}"));
        let err = run(Limits::default(), &file, None, &dest).unwrap_err();
        assert!(err.is_invalid_image(), "case {number}: {err}");
    }
}

#[test]
fn devices_that_would_be_the_hosts_are_left_out() {
    let scratch = folder();
    let root = scratch.path().join("tree/rootfs");
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::write(scratch.path().join("tree/metadata.yaml"), METADATA).unwrap();
    let node = |name: &str, kind, major, minor| {
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        nix::sys::stat::mknod(
            &root.join("dev").join(name),
            kind,
            mode,
            libc::makedev(major, minor),
        )
        .unwrap();
    };
    node("null", SFlag::S_IFCHR, 1, 3);
    node("mem", SFlag::S_IFCHR, 1, 1);
    node("vda", SFlag::S_IFBLK, 254, 0);
    let packed = scratch.path().join("image.tar");
    pack_unified(&scratch.path().join("tree"), &packed, Compression::None).unwrap();
    let squashfs = scratch.path().join("root.squashfs");
    let made = Command::new("mksquashfs")
        .arg(&root)
        .arg(&squashfs)
        .args(["-quiet", "-no-progress"])
        .status();
    assert!(made.unwrap().success());
    for (number, second) in [None, Some(squashfs.as_path())].into_iter().enumerate() {
        let dest = scratch.path().join(format!("dest{number}"));
        let meta = scratch.path().join("meta.tar");
        archive(&meta, &[("metadata.yaml", EntryType::Regular, METADATA)]);
        let first = if second.is_some() { &meta } else { &packed };
        run(Limits::default(), first, second, &dest).unwrap();
        let dev = dest.join("rootfs/dev");
        let null = fs::metadata(dev.join("null")).unwrap();
        assert!(null.file_type().is_char_device() && null.rdev() == libc::makedev(1, 3));
        assert!(!dev.join("mem").exists() && !dev.join("vda").exists());
    }
}

#[test]
fn headers_that_would_fill_the_memory_are_refused() {
    let scratch = folder();
    let file = scratch.path().join("bomb.tar");
    let mut builder = Builder::new(fs::File::create(&file).unwrap());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_path("././@LongLink").unwrap();
    header.set_size(64 << 20);
    header.set_cksum();
    builder
        .append(&header, std::io::Read::take(std::io::repeat(b'a'), 64 << 20))
        .unwrap();
    drop(builder);
    for err in [
        inspect_unified(&file).unwrap_err(),
        run(Limits::default(), &file, None, &scratch.path().join("d")).unwrap_err(),
    ] {
        assert!(err.to_string().contains("exceed 4 MiB"), "{err}");
    }
}

#[test]
fn large_entries_do_not_use_up_what_headers_may_take() {
    let scratch = folder();
    let root = scratch.path().join("tree/rootfs");
    fs::create_dir_all(&root).unwrap();
    fs::write(scratch.path().join("tree/metadata.yaml"), METADATA).unwrap();
    for number in 0..3 {
        fs::File::create(root.join(format!("large{number}")))
            .unwrap()
            .set_len(9 << 20)
            .unwrap();
    }
    let file = scratch.path().join("image.tar.gz");
    let packed = Command::new("tar")
        .args(["--sparse", "--format=gnu", "-C"])
        .arg(scratch.path().join("tree"))
        .arg("-czf")
        .arg(&file)
        .args(["metadata.yaml", "rootfs"])
        .status();
    assert!(packed.unwrap().success());
    let dest = scratch.path().join("dest");
    run(Limits::default(), &file, None, &dest).unwrap();
    let large = fs::metadata(dest.join("rootfs/large2")).unwrap();
    assert_eq!(large.len(), 9 << 20);
    assert!(large.blocks() < 100, "zeroes were written out");
}

#[test]
fn a_virtual_machine_in_one_file_gets_a_raw_disk() {
    let scratch = folder();
    let tree = scratch.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("metadata.yaml"), METADATA).unwrap();
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(tree.join("rootfs.img"))
        .arg("8M")
        .status();
    assert!(made.unwrap().success());
    let file = scratch.path().join("image.tar");
    pack_unified(&tree, &file, Compression::None).unwrap();
    assert_eq!(inspect_unified(&file).unwrap().kind, ImageKind::VirtualMachine);
    let dest = scratch.path().join("dest");
    run(Limits::default(), &file, None, &dest).unwrap();
    assert_eq!(fs::metadata(dest.join("rootfs.img")).unwrap().len(), 8 << 20);
    assert!(!dest.join("rootfs.raw").exists());
}

#[test]
fn long_names_and_exact_times_survive_the_round_trip() {
    let scratch = folder();
    let name = "n".repeat(120);
    let folder_path = scratch.path().join("tree/rootfs").join(&name);
    fs::create_dir_all(&folder_path).unwrap();
    fs::write(scratch.path().join("tree/metadata.yaml"), METADATA).unwrap();
    fs::write(folder_path.join(&name), "x").unwrap();
    xattr::set(folder_path.join(&name), "user.note", b"kept").unwrap();
    std::os::unix::fs::symlink("t".repeat(200), folder_path.join("link")).unwrap();
    let file = scratch.path().join("image.tar");
    pack_unified(&scratch.path().join("tree"), &file, Compression::None).unwrap();
    let dest = scratch.path().join("dest");
    run(Limits::default(), &file, None, &dest).unwrap();
    let unpacked = dest.join("rootfs").join(&name);
    assert_eq!(
        xattr::get(unpacked.join(&name), "user.note").unwrap().as_deref(),
        Some(&b"kept"[..])
    );
    assert_eq!(
        fs::read_link(unpacked.join("link")).unwrap(),
        Path::new(&"t".repeat(200))
    );
    assert_eq!(pax_time("12.5"), Some((12, 500_000_000)));
    assert_eq!(pax_time("-1.25"), Some((-2, 750_000_000)));
    assert_eq!(pax_time("7"), Some((7, 0)));
    assert_eq!(pax_time("7.x"), None);
}
