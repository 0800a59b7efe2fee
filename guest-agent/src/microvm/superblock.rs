//! What is on a disk: file systems by the magic numbers of their superblocks.

/// Bytes from the start of a device that tell everything this module looks at: btrfs' superblock is the farthest.
pub(super) const LENGTH: usize = (64 << 10) + 4096;

/// Name of the file system's driver, if it is one that the kernels in use know.
pub(super) fn file_system(start: &[u8]) -> Option<&'static str> {
    let has = |offset: usize, magic: &[u8]| start.get(offset..offset + magic.len()) == Some(magic);
    if has(EXT_SUPERBLOCK + 0x38, &0xef53u16.to_le_bytes()) {
        return Some("ext4"); // its driver reads ext2 and ext3 too
    }
    if has(1024, &0xe0f5_e1e2u32.to_le_bytes()) {
        return Some("erofs");
    }
    if has(0, b"hsqs") {
        return Some("squashfs");
    }
    if has((64 << 10) + 0x40, b"_BHRfS_M") {
        return Some("btrfs");
    }
    has(0, b"XFSB").then_some("xfs")
}

/// Where ext4's superblock is (kernel documentation, filesystems/ext4/super.rst).
const EXT_SUPERBLOCK: usize = 1024;

/// Size of an ext4 file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExtSize {
    pub(super) block_size: u64,
    pub(super) blocks: u64,
}

/// Reads it from the superblock.
pub(super) fn ext_size(start: &[u8]) -> Option<ExtSize> {
    const INCOMPAT_64BIT: u32 = 0x80;
    let field = |offset: usize| {
        let bytes = start.get(EXT_SUPERBLOCK + offset..EXT_SUPERBLOCK + offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let low = field(0x4)?;
    let high = if field(0x60)? & INCOMPAT_64BIT != 0 {
        field(0x150)?
    } else {
        0
    };
    let shift = field(0x18)?;
    // The format allows 1 KiB to 64 KiB.
    (shift <= 6).then(|| ExtSize {
        block_size: 1024 << shift,
        blocks: u64::from(high) << 32 | u64::from(low),
    })
}

#[cfg(test)]
#[path = "superblock_tests.rs"]
mod tests;
