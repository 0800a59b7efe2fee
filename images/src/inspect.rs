//! What an uploaded image is, without unpacking it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use crate::archive::for_each_entry;
use crate::compression::{Magic, magic_of};
use crate::error::{Error, Result};
use crate::limits::{Budget, Limits};
use crate::metadata::{METADATA_MAX, Metadata, Template};

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

impl ImageInfo {
    fn new(metadata: Metadata, kind: ImageKind, files: &[&Path]) -> Result<Self> {
        let (fingerprint, size) = fingerprint(files)?;
        let Metadata {
            architecture,
            creation_date,
            expiry_date,
            properties,
            templates,
        } = metadata;
        Ok(Self {
            fingerprint,
            size,
            kind,
            architecture,
            creation_date,
            expiry_date,
            properties,
            templates,
        })
    }
}

/// Looks into a unified image.
pub fn inspect_unified(file: &Path) -> Result<ImageInfo> {
    let (metadata, root) = read_metadata(file, true)?;
    let kind = root.ok_or_else(|| {
        Error::invalid(
            file,
            "it has neither rootfs/ nor rootfs.img; the split form needs a second file",
        )
    })?;
    ImageInfo::new(metadata, kind, &[file])
}

/// Looks into a split image.
pub fn inspect_split(meta: &Path, rootfs: &Path) -> Result<ImageInfo> {
    let (metadata, _) = read_metadata(meta, false)?;
    let kind = match magic_of(rootfs)? {
        Magic::Squashfs | Magic::Compressed(_) => ImageKind::Container,
        Magic::Qcow2 | Magic::Disk => ImageKind::VirtualMachine,
        Magic::Unknown => {
            let reason = "a root file system is squashfs or tar, a disk is qcow2 or has a partition table";
            return Err(Error::invalid(rootfs, reason));
        }
    };
    ImageInfo::new(metadata, kind, &[meta, rootfs])
}

/// SHA-256 and size of files one after the other.
fn fingerprint(files: &[&Path]) -> Result<(String, u64)> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 256 << 10];
    for path in files {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        loop {
            let read = file.read(&mut buffer).map_err(Error::io("read", path))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            size += read as u64;
        }
    }
    Ok((hex(&hash.finalize()), size))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads as much of a tarball as it takes to find metadata.yaml and (when `want_root`) what kind of root it has.
fn read_metadata(file: &Path, want_root: bool) -> Result<(Metadata, Option<ImageKind>)> {
    let broken = |err: std::io::Error| Error::invalid(file, err);
    // A bomb of zeroes costs time here, not space: bound it all the same.
    let mut budget = Budget::new(Limits::default());
    let (mut metadata, mut root) = (None, None);
    for_each_entry(file, &mut |entry, _| {
        budget.entry()?;
        budget.bytes(entry.size())?;
        let path = entry.path().map_err(broken)?.into_owned();
        let mut parts = path
            .components()
            .filter(|part| !matches!(part, Component::CurDir));
        let first = parts.next();
        let deeper = parts.next().is_some();
        match first {
            Some(Component::Normal(name)) if name == "metadata.yaml" && !deeper => {
                if !entry.header().entry_type().is_file() {
                    return Err(Error::Metadata("it is not a regular file".into()));
                }
                if entry.size() > METADATA_MAX {
                    let reason = format!("it has {} bytes; {METADATA_MAX} are allowed", entry.size());
                    return Err(Error::Metadata(reason));
                }
                let mut text = Vec::new();
                entry
                    .read_to_end(&mut text)
                    .map_err(|err| Error::Metadata(err.to_string()))?;
                metadata = Some(Metadata::from_yaml(&text)?);
            }
            Some(Component::Normal(name)) if name == "rootfs" => root = Some(ImageKind::Container),
            Some(Component::Normal(name)) if name == "rootfs.img" && !deeper => {
                root = Some(ImageKind::VirtualMachine)
            }
            _ => {}
        }
        if metadata.is_some() && (root.is_some() || !want_root) {
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    metadata
        .map(|metadata| (metadata, root))
        .ok_or_else(|| Error::invalid(file, "it has no metadata.yaml"))
}
