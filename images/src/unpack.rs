//! Unpacking an image into a directory.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crate::error::Result;

/// What an image may unpack to at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of file contents.
    pub bytes: u64,
    /// Files, directories and everything else.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 4_000_000,
        }
    }
}

/// Unpacks within the default limits. Writes `rootfs/` (or `rootfs.img`, a raw disk), `metadata.yaml` and `templates/` into `dest`,
/// which exists. `progress` is told the compressed bytes read so far; raising `cancel` ends it with [`crate::Error::Cancelled`].
pub fn unpack(
    meta: &Path,
    rootfs: Option<&Path>,
    dest: &Path,
    progress: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<()> {
    unpack_within(meta, rootfs, dest, &Limits::default(), progress, cancel)
}

/// Unpacks within limits.
pub fn unpack_within(
    meta: &Path,
    rootfs: Option<&Path>,
    dest: &Path,
    limits: &Limits,
    progress: &mut dyn FnMut(u64),
    cancel: &AtomicBool,
) -> Result<()> {
    let _ = (meta, rootfs, dest, limits, progress, cancel);
    todo!()
}
