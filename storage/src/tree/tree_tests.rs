use std::ffi::CString;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, mkdirat, mknod};
use proptest::prelude::*;

use super::*;

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let name = CString::new(name).unwrap();
    // SAFETY: path, name and value live through the call, the value's length is its own.
    let set = unsafe {
        libc::lsetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

fn get_xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let name = CString::new(name).unwrap();
    let mut value = vec![0u8; 256];
    // SAFETY: the kernel writes no more than the value's length, all pointers live through the call.
    let got = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    (got >= 0).then(|| value[..got as usize].to_vec())
}

/// A fresh pair of directories: one to fill, one to copy to.
fn pair() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    (scratch, from, to)
}

#[test]
fn everything_an_inode_says_is_copied() {
    let (_scratch, from, to) = pair();
    fs::create_dir(from.join("dir")).unwrap();
    fs::write(from.join("dir/tool"), "program").unwrap();
    std::os::unix::fs::chown(from.join("dir/tool"), Some(1000), Some(1001)).unwrap();
    fs::set_permissions(from.join("dir/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    // VFS_CAP_REVISION_2 with cap_net_raw permitted and effective.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set_xattr(&from.join("dir/tool"), "security.capability", &capability);
    fs::hard_link(from.join("dir/tool"), from.join("alias")).unwrap();
    symlink("/etc/passwd", from.join("link")).unwrap();
    std::os::unix::fs::lchown(from.join("link"), Some(5), Some(6)).unwrap();
    mknod(
        &from.join("null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o622),
        libc::makedev(1, 3),
    )
    .unwrap();
    mknod(
        &from.join("fifo"),
        SFlag::S_IFIFO,
        Mode::from_bits_truncate(0o600),
        0,
    )
    .unwrap();
    mknod(
        &from.join("sock"),
        SFlag::S_IFSOCK,
        Mode::from_bits_truncate(0o600),
        0,
    )
    .unwrap();
    set_xattr(&from.join("dir"), "user.note", b"kept");
    fs::set_permissions(from.join("dir"), fs::Permissions::from_mode(0o2750)).unwrap();
    let long_ago =
        fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 7));
    fs::File::open(from.join("dir"))
        .unwrap()
        .set_times(long_ago)
        .unwrap();
    fs::File::open(from.join("dir/tool"))
        .unwrap()
        .set_times(long_ago)
        .unwrap();

    copy_tree(&from, &to).unwrap();

    let tool = fs::metadata(to.join("dir/tool")).unwrap();
    assert_eq!(
        (tool.uid(), tool.gid(), tool.mode() & 0o7777),
        (1000, 1001, 0o4755)
    );
    assert_eq!((tool.mtime(), tool.mtime_nsec()), (1_000_000, 7));
    assert_eq!(
        get_xattr(&to.join("dir/tool"), "security.capability").as_deref(),
        Some(&capability[..])
    );
    assert_eq!(tool.ino(), fs::metadata(to.join("alias")).unwrap().ino());
    assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::symlink_metadata(to.join("link")).unwrap().uid(), 5);
    let null = fs::metadata(to.join("null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == libc::makedev(1, 3));
    assert_eq!(
        null.mode() & 0o7777,
        fs::metadata(from.join("null")).unwrap().mode() & 0o7777
    );
    assert!(fs::metadata(to.join("fifo")).unwrap().file_type().is_fifo());
    assert!(fs::metadata(to.join("sock")).unwrap().file_type().is_socket());
    let dir = fs::metadata(to.join("dir")).unwrap();
    assert_eq!((dir.mode() & 0o7777, dir.mtime()), (0o2750, 1_000_000));
    assert_eq!(
        get_xattr(&to.join("dir"), "user.note").as_deref(),
        Some(&b"kept"[..])
    );
}

#[test]
fn access_control_lists_are_copied_and_default_ones_do_not_leak_into_entries() {
    let (_scratch, from, to) = pair();
    fs::create_dir(from.join("shared")).unwrap();
    fs::write(from.join("shared/plain"), "x").unwrap();
    fs::set_permissions(from.join("shared/plain"), fs::Permissions::from_mode(0o640)).unwrap();
    // acl(5) in its xattr form: version 2, then tag, permissions, id: u::rwx u:1000:rwx g::r-x m::rwx o::---.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, allowed, id) in [
        (1u16, 7u16, u32::MAX),
        (2, 7, 1000),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(allowed.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    set_xattr(&from.join("shared"), "system.posix_acl_default", &acl);
    copy_tree(&from, &to).unwrap();
    assert_eq!(
        get_xattr(&to.join("shared"), "system.posix_acl_default"),
        Some(acl)
    );
    assert_eq!(
        get_xattr(&to.join("shared/plain"), "system.posix_acl_access"),
        None
    );
    assert_eq!(
        fs::metadata(to.join("shared/plain")).unwrap().mode() & 0o7777,
        0o640
    );
}

#[test]
fn holes_stay_holes() {
    let (_scratch, from, to) = pair();
    let mut file = fs::File::create(from.join("sparse")).unwrap();
    file.write_all(b"start").unwrap();
    file.seek(SeekFrom::Start(8 << 20)).unwrap();
    file.write_all(b"middle").unwrap();
    file.set_len(64 << 20).unwrap();
    copy_tree(&from, &to).unwrap();
    copy_file(&from.join("sparse"), &to.join("second")).unwrap();
    for name in ["sparse", "second"] {
        let copied = fs::metadata(to.join(name)).unwrap();
        assert_eq!(copied.len(), 64 << 20);
        assert!(
            copied.blocks() * 512 < 1 << 20,
            "{name} takes {} blocks",
            copied.blocks()
        );
        let contents = fs::read(to.join(name)).unwrap();
        assert!(contents == fs::read(from.join("sparse")).unwrap());
    }
}

#[test]
fn a_large_tree_is_copied_by_several_threads_without_losing_anything() {
    let (_scratch, from, to) = pair();
    for outer in 0..20 {
        for inner in 0..5 {
            let dir = from.join(format!("{outer}/{inner}"));
            fs::create_dir_all(&dir).unwrap();
            for file in 0..12 {
                fs::write(dir.join(file.to_string()), format!("{outer} {inner} {file}")).unwrap();
            }
            fs::hard_link(dir.join("0"), from.join(format!("{outer}-{inner}"))).unwrap();
        }
    }
    copy_tree(&from, &to).unwrap();
    for outer in 0..20 {
        for inner in 0..5 {
            let dir = to.join(format!("{outer}/{inner}"));
            for file in 0..12 {
                let text = fs::read_to_string(dir.join(file.to_string())).unwrap();
                assert_eq!(text, format!("{outer} {inner} {file}"));
            }
            let linked = fs::metadata(to.join(format!("{outer}-{inner}"))).unwrap();
            assert_eq!(linked.ino(), fs::metadata(dir.join("0")).unwrap().ino());
        }
    }
    assert_eq!(usage(&from).unwrap(), usage(&to).unwrap());
}

#[test]
fn links_out_of_the_tree_are_copied_and_removed_but_never_followed() {
    let (scratch, from, to) = pair();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), vec![1; 1 << 20]).unwrap();
    symlink(&outside, from.join("dir")).unwrap();
    symlink(outside.join("secret"), from.join("file")).unwrap();
    assert!(usage(&from).unwrap() < 1 << 20);
    copy_tree(&from, &to).unwrap();
    assert!(fs::symlink_metadata(to.join("dir")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(to.join("file")).unwrap().is_symlink());
    remove(&to).unwrap();
    assert!(!to.exists());
    assert!(outside.join("secret").exists());
    // A link in the place of a tree is itself the thing to remove.
    symlink(&outside, &to).unwrap();
    remove(&to).unwrap();
    assert!(fs::symlink_metadata(&to).is_err() && outside.join("secret").exists());
    assert!(copy_tree(&from.join("dir"), &from).is_err());
}

#[test]
fn directories_nested_deeper_than_any_path_are_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let top = scratch.path().join("deep");
    fs::create_dir(&top).unwrap();
    let mut dir = open_top(&top).unwrap();
    for level in 0..3000 {
        let name = CString::new("directory").unwrap();
        mkdirat(&dir, name.as_c_str(), Mode::S_IRWXU).unwrap();
        if level % 100 == 0 {
            let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_WRONLY;
            drop(nix::fcntl::openat(&dir, c"file", flags, Mode::S_IRUSR).unwrap());
        }
        dir = open_dir(&dir, name.as_c_str()).unwrap();
    }
    drop(dir);
    remove(&top).unwrap();
    assert!(!top.exists());
    remove(&top).unwrap();
}

#[test]
fn immutable_files_are_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let top = scratch.path().join("top");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("file"), "x").unwrap();
    let chattr = std::process::Command::new("chattr")
        .arg("-R")
        .arg("+i")
        .arg(&top)
        .status();
    if !chattr.is_ok_and(|status| status.success()) {
        eprintln!("skipped: chattr +i does not work here");
    }
    remove(&top).unwrap();
    assert!(!top.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_pattern_of_data_and_holes_is_copied_to_the_byte(
        segments in proptest::collection::vec((0u64..40, 0usize..20_000, any::<u8>()), 0..6),
        tail in 0u64..300_000,
    ) {
        let (_scratch, from, to) = pair();
        let mut file = fs::File::create(from.join("f")).unwrap();
        for (page, length, byte) in segments {
            file.seek(SeekFrom::Start(page * 4096)).unwrap();
            file.write_all(&vec![byte; length]).unwrap();
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length + tail).unwrap();
        copy_tree(&from, &to).unwrap();
        prop_assert!(fs::read(from.join("f")).unwrap() == fs::read(to.join("f")).unwrap());
    }
}
