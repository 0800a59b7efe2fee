use std::io::Read;
use std::process::Command;

use super::*;

#[test]
fn what_mkfs_made_is_recognised_with_its_size() {
    let disk = tempfile::NamedTempFile::new().unwrap();
    disk.as_file().set_len(8 << 20).unwrap();
    let mkfs = Command::new("/sbin/mkfs.ext4")
        .args(["-q", "-F"])
        .arg(disk.path())
        .status()
        .unwrap();
    assert!(mkfs.success());
    let mut start = Vec::new();
    disk.as_file()
        .take(LENGTH as u64)
        .read_to_end(&mut start)
        .unwrap();
    assert_eq!(file_system(&start), Some("ext4"));
    let size = ext_size(&start).unwrap();
    assert_eq!(size.block_size * size.blocks, 8 << 20);
}

#[test]
fn others_are_told_by_their_magic_numbers() {
    let with = |offset: usize, magic: &[u8]| {
        let mut start = vec![0; LENGTH];
        start[offset..offset + magic.len()].copy_from_slice(magic);
        start
    };
    assert_eq!(file_system(&with(1024, &[0xe2, 0xe1, 0xf5, 0xe0])), Some("erofs"));
    assert_eq!(file_system(&with(0, b"hsqs")), Some("squashfs"));
    assert_eq!(file_system(&with(65536 + 64, b"_BHRfS_M")), Some("btrfs"));
    assert_eq!(file_system(&with(0, b"XFSB")), Some("xfs"));
}

#[test]
fn empty_and_short_disks_hold_nothing() {
    assert_eq!(file_system(&[0; LENGTH]), None);
    assert_eq!(file_system(b"hs"), None);
    assert_eq!(
        ext_size(&[0xff; LENGTH]),
        None,
        "a block size beyond the format's is refused"
    );
    assert_eq!(ext_size(&[]), None);
}
