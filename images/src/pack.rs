//! Making a unified image: what publishing and exporting do.

use std::path::Path;

use crate::error::Result;
use crate::metadata::Metadata;

/// How an image file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    #[default]
    Gzip,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
}

/// What goes into an image.
#[derive(Debug)]
pub struct PackSource<'a> {
    /// The tree that becomes `rootfs/`.
    pub rootfs: &'a Path,
    /// What becomes `metadata.yaml`.
    pub metadata: &'a Metadata,
    /// The directory that becomes `templates/`.
    pub templates: Option<&'a Path>,
}

/// A finished image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// SHA-256 of the file in lower-case hex.
    pub fingerprint: String,
    /// The file's bytes.
    pub size: u64,
}

/// Packs `dir` with its `metadata.yaml`, `rootfs/` and `templates/` into the file `out`.
pub fn pack_unified(dir: &Path, out: &Path, compression: Compression) -> Result<Packed> {
    let _ = (dir, out, compression);
    todo!()
}

/// Packs parts that lie in different places.
pub fn pack(source: &PackSource<'_>, out: &Path, compression: Compression) -> Result<Packed> {
    let _ = (source, out, compression);
    todo!()
}
