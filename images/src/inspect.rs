//! What an uploaded image is, without unpacking it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Result;
use crate::metadata::Template;

/// What an image can become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageKind {
    /// It has a root file system: a container, or a microVM.
    Container,
    /// It has a disk image.
    VirtualMachine,
}

impl ImageKind {
    /// The API's name of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::VirtualMachine => "virtual-machine",
        }
    }
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// SHA-256 in lower-case hex of the file, or of metadata and root file one after the other.
    pub fingerprint: String,
    /// Bytes of the file or files.
    pub size: u64,
    /// What it can become.
    pub kind: ImageKind,
    /// Kernel name of the architecture.
    pub architecture: String,
    /// Seconds since 1970.
    pub creation_date: i64,
    /// Seconds since 1970; 0 is never.
    pub expiry_date: i64,
    /// What the maker says about it.
    pub properties: BTreeMap<String, String>,
    /// Files to fill in, by their path in the instance.
    pub templates: BTreeMap<String, Template>,
}

/// Looks into a unified image.
pub fn inspect_unified(file: &Path) -> Result<ImageInfo> {
    let _ = file;
    todo!()
}
/// Looks into a split image.
pub fn inspect_split(meta: &Path, rootfs: &Path) -> Result<ImageInfo> {
    let _ = (meta, rootfs);
    todo!()
}
