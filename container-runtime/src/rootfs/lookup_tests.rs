//! Finding one's way in hostile images.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn image() -> (tempfile::TempDir, RootDir) {
    let dir = tempfile::tempdir().unwrap();
    let root = RootDir::open(dir.path()).unwrap();
    (dir, root)
}

#[test]
fn absolute_and_upward_links_end_inside() {
    let (dir, root) = image();
    fs::create_dir_all(dir.path().join("usr/lib/systemd")).unwrap();
    fs::create_dir_all(dir.path().join("sbin")).unwrap();
    fs::write(dir.path().join("usr/lib/systemd/systemd"), "elf").unwrap();
    symlink("/usr/lib/systemd/systemd", dir.path().join("sbin/init")).unwrap();
    symlink("../../../../../../../usr", dir.path().join("up")).unwrap();
    assert_eq!(
        root.real_path("/sbin/init").unwrap(),
        Path::new("/usr/lib/systemd/systemd")
    );
    assert_eq!(root.real_path("/up/lib").unwrap(), Path::new("/usr/lib"));
    assert_eq!(root.real_path("/../../usr").unwrap(), Path::new("/usr"));
    symlink("/etc/passwd", dir.path().join("secret")).unwrap();
    assert_eq!(root.real_path("/secret"), None);
    symlink("loop", dir.path().join("loop")).unwrap();
    assert_eq!(root.real_path("/loop"), None);
}

#[test]
fn targets_are_made_inside_and_only_there() {
    let (dir, root) = image();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), dir.path().join("out")).unwrap();
    // What the link means inside does not exist there, and a mount point behind a dangling link is not invented.
    assert!(root.target("/out/file", TargetKind::File).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    root.target("/a/b/c", TargetKind::Directory).unwrap();
    assert!(dir.path().join("a/b/c").is_dir());
    root.target("/a/d/file", TargetKind::File).unwrap();
    assert!(dir.path().join("a/d/file").is_file());
    // Again: existing ones are taken.
    root.target("/a/b/c", TargetKind::Directory).unwrap();
    assert!(root.target("/a/d/file/below", TargetKind::File).is_err());
    assert!(root.target("/", TargetKind::Directory).is_err());
    assert!(root.target("/..", TargetKind::Directory).is_err());
}

#[test]
fn places_of_the_kernel_must_be_real_directories() {
    let (dir, root) = image();
    fs::create_dir(dir.path().join("real")).unwrap();
    symlink("real", dir.path().join("dev")).unwrap();
    fs::write(dir.path().join("proc"), "").unwrap();
    let text = |path: &str| root.fixed_target(path).unwrap_err().to_string();
    assert!(text("/dev").contains("symbolic link"), "{}", text("/dev"));
    assert!(text("/dev/pts").contains("symbolic link"));
    assert!(text("/proc").contains("not a directory"));
    root.fixed_target("/sys/fs/cgroup").unwrap();
    assert!(dir.path().join("sys/fs/cgroup").is_dir());
}

#[test]
fn scanning_a_program_is_bounded_and_only_for_files() {
    let (dir, root) = image();
    fs::write(dir.path().join("init"), b"....BusyBox v1.35....").unwrap();
    assert!(root.contains("/init", b"BusyBox v"));
    assert!(!root.contains("/init", b"systemd"));
    assert!(!root.contains("/", b"x"));
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(!root.contains("/fifo", b"x"));
    let huge = fs::File::create(dir.path().join("huge")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(!root.contains("/huge", b"x"));
}
