//! The few ioctls of btrfs that the driver needs (linux/btrfs.h, linux/btrfs_tree.h).

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

const MAGIC: u8 = 0x94;
/// `BTRFS_FIRST_FREE_OBJECTID`: the inode number of every subvolume's top directory.
pub(super) const TOP_INODE: u64 = 256;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// `BTRFS_QUOTA_TREE_OBJECTID`.
const QUOTA_TREE: u64 = 8;
/// `BTRFS_QGROUP_INFO_KEY`: generation, referenced, referenced compressed, exclusive, exclusive compressed.
const QGROUP_INFO: u32 = 242;
/// `BTRFS_QGROUP_LIMIT_KEY`: flags, max referenced, max exclusive, reserved ones.
const QGROUP_LIMIT: u32 = 244;
/// `BTRFS_QGROUP_LIMIT_MAX_RFER`.
const MAX_REFERENCED: u64 = 1;
/// Room for a name in [`VolArgs2`], its NUL included.
const NAME_ROOM: usize = 4040;

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
pub(super) struct VolArgs2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; NAME_ROOM],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
pub(super) struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
pub(super) struct QuotaControl {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
#[derive(Default)]
pub(super) struct LimitArgs {
    qgroup: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
pub(super) struct QgroupCreate {
    create: u64,
    qgroup: u64,
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
pub(super) struct InoLookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_search_args`: the key, then found items, each behind a header of 32 bytes.
#[repr(C)]
pub(super) struct Search {
    tree: u64,
    min_object: u64,
    max_object: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    items: u32,
    unused: u32,
    unused_words: [u64; 4],
    buffer: [u8; 4096 - 104],
}

const _: () = assert!(size_of::<VolArgs2>() == 4096 && size_of::<VolArgs>() == 4096);
const _: () = assert!(size_of::<Search>() == 4096 && size_of::<InoLookup>() == 4096);
const _: () = assert!(size_of::<LimitArgs>() == 48);

nix::ioctl_write_ptr!(snap_destroy, MAGIC, 15, VolArgs);
nix::ioctl_readwrite!(tree_search, MAGIC, 17, Search);
nix::ioctl_readwrite!(ino_lookup, MAGIC, 18, InoLookup);
nix::ioctl_write_ptr!(snap_create, MAGIC, 23, VolArgs2);
nix::ioctl_write_ptr!(subvol_create, MAGIC, 24, VolArgs2);
nix::ioctl_write_ptr!(subvol_setflags, MAGIC, 26, u64);
nix::ioctl_readwrite!(quota_control, MAGIC, 40, QuotaControl);
nix::ioctl_write_ptr!(qgroup_create, MAGIC, 42, QgroupCreate);
nix::ioctl_read!(qgroup_limit, MAGIC, 43, LimitArgs);
nix::ioctl_none!(quota_rescan_wait, MAGIC, 46);

/// Writes a name into its field, which stays terminated by NUL.
fn put_name(field: &mut [u8], name: &OsStr) -> nix::Result<()> {
    let name = name.as_bytes();
    if name.len() >= field.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    field[..name.len()].copy_from_slice(name);
    Ok(())
}

fn volume_args(fd: i64, flags: u64, name: &OsStr) -> nix::Result<VolArgs2> {
    let mut args = VolArgs2 {
        fd,
        transid: 0,
        flags,
        unused: [0; 4],
        name: [0; NAME_ROOM],
    };
    put_name(&mut args.name, name)?;
    Ok(args)
}

/// Makes an empty subvolume in an open directory.
pub(super) fn create(parent: &File, name: &OsStr) -> nix::Result<()> {
    let args = volume_args(0, 0, name)?;
    // SAFETY: the kernel reads the structure, which lives through the call.
    unsafe { subvol_create(parent.as_raw_fd(), &raw const args) }.map(drop)
}

/// Makes a snapshot of the subvolume `source` in an open directory.
pub(super) fn snapshot(source: &File, parent: &File, name: &OsStr, read_only: bool) -> nix::Result<()> {
    let flags = if read_only { READ_ONLY } else { 0 };
    let args = volume_args(i64::from(source.as_raw_fd()), flags, name)?;
    // SAFETY: the kernel reads the structure, which lives through the call, and the descriptor in it is open.
    unsafe { snap_create(parent.as_raw_fd(), &raw const args) }.map(drop)
}

/// Deletes a subvolume that holds no other.
pub(super) fn destroy(parent: &File, name: &OsStr) -> nix::Result<()> {
    let mut args = VolArgs {
        fd: 0,
        name: [0; 4088],
    };
    put_name(&mut args.name, name)?;
    // SAFETY: the kernel reads the structure, which lives through the call.
    unsafe { snap_destroy(parent.as_raw_fd(), &raw const args) }.map(drop)
}

/// Makes a read-only subvolume writable.
pub(super) fn make_writable(subvolume: impl AsFd) -> nix::Result<()> {
    let flags = 0u64;
    // SAFETY: the kernel reads eight bytes from `flags`, which lives through the call.
    unsafe { subvol_setflags(subvolume.as_fd().as_raw_fd(), &raw const flags) }.map(drop)
}

/// Switches quota groups on and waits until everything is counted.
pub(super) fn enable_quota(file: &File) -> nix::Result<()> {
    let mut args = QuotaControl {
        command: 1,
        status: 0,
    };
    // SAFETY: the kernel reads and writes the structure, which lives through the call.
    unsafe { quota_control(file.as_raw_fd(), &raw mut args) }?;
    // SAFETY: the call takes no argument.
    unsafe { quota_rescan_wait(file.as_raw_fd()) }.map(drop)
}

/// Limits what the subvolume of an open file refers to; zero lifts the limit.
pub(super) fn limit(subvolume: &File, bytes: u64) -> nix::Result<()> {
    // Qgroup 0 stands for the file's own subvolume; all ones clears a limit (fs/btrfs/qgroup.c, CLEAR_VALUE).
    let max_referenced = if bytes == 0 { u64::MAX } else { bytes };
    let mut args = LimitArgs {
        flags: MAX_REFERENCED,
        max_referenced,
        ..LimitArgs::default()
    };
    // SAFETY: the kernel reads the structure, which lives through the call.
    unsafe { qgroup_limit(subvolume.as_raw_fd(), &raw mut args) }.map(drop)
}

/// The id of the subvolume of an open file.
pub(super) fn subvolume_id(file: &File) -> nix::Result<u64> {
    let mut args = InoLookup {
        tree: 0,
        object: TOP_INODE,
        name: [0; 4080],
    };
    // SAFETY: the kernel reads and writes the structure, which lives through the call.
    unsafe { ino_lookup(file.as_raw_fd(), &raw mut args) }?;
    Ok(args.tree)
}

/// Forgets the counters of a deleted subvolume.
pub(super) fn forget_qgroup(file: &File, subvolume: u64) -> nix::Result<()> {
    let args = QgroupCreate {
        create: 0,
        qgroup: subvolume,
    };
    // SAFETY: the kernel reads the structure, which lives through the call.
    unsafe { qgroup_create(file.as_raw_fd(), &raw const args) }.map(drop)
}

/// Bytes that a subvolume refers to, if they are counted.
pub(super) fn referenced(file: &File) -> nix::Result<Option<u64>> {
    Ok(quota_item(file, QGROUP_INFO)?.map(|words| words[1]))
}

/// What a subvolume may refer to at most, if that is limited.
pub(super) fn referenced_limit(file: &File) -> nix::Result<Option<u64>> {
    Ok(quota_item(file, QGROUP_LIMIT)?
        .filter(|words| words[0] & MAX_REFERENCED != 0)
        .map(|words| words[1]))
}

/// The first two words of a subvolume's item in the quota tree. `None` if it or the tree is not there.
fn quota_item(file: &File, kind: u32) -> nix::Result<Option<[u64; 2]>> {
    let id = subvolume_id(file)?;
    let mut search = Search {
        tree: QUOTA_TREE,
        min_object: 0,
        max_object: 0,
        min_offset: id,
        max_offset: id,
        min_transid: 0,
        max_transid: u64::MAX,
        min_type: kind,
        max_type: kind,
        items: 1,
        unused: 0,
        unused_words: [0; 4],
        buffer: [0; 4096 - 104],
    };
    // SAFETY: the kernel reads and writes the structure, which lives through the call.
    match unsafe { tree_search(file.as_raw_fd(), &raw mut search) } {
        Ok(_) if search.items == 0 => return Ok(None),
        Ok(_) => {}
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    }
    let word = |index: usize| {
        let at = 32 + index * 8;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&search.buffer[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    Ok(Some([word(0), word(1)]))
}
