//! A disk image from a directory tree, for booting a container image as a microVM.

use std::path::Path;

use crate::error::Result;

/// Makes `raw_file`, a sparse ext4 disk of `size_bytes`, from the tree at `rootfs_dir`.
pub fn make_root_disk(rootfs_dir: &Path, raw_file: &Path, size_bytes: u64) -> Result<()> {
    let _ = (rootfs_dir, raw_file, size_bytes);
    todo!()
}
