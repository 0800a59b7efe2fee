//! The nouns of a pool: what a volume is called, what it holds and how much room there is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest accepted name: leaves room in a 255-byte file name (`NAME_MAX`) for the prefix of a temporary name.
pub(crate) const NAME_MAX: usize = 200;

/// What a volume belongs to. Each kind has its own directory in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeKind {
    /// The root of a container.
    Container,
    /// The root disk of a virtual machine.
    VirtualMachine,
    /// An unpacked image, the source of instances' roots.
    Image,
    /// A volume that a user made.
    Custom,
}

impl VolumeKind {
    /// Every kind, in the order of [`crate::Pool::list`].
    pub const ALL: [Self; 4] = [Self::Container, Self::VirtualMachine, Self::Image, Self::Custom];

    /// The directory of volumes of this kind, Incus' names.
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Container => "containers",
            Self::VirtualMachine => "virtual-machines",
            Self::Image => "images",
            Self::Custom => "custom",
        }
    }

    /// The directory of those volumes' snapshots, one directory per volume.
    pub(crate) fn snapshot_folder(self) -> &'static str {
        match self {
            Self::Container => "containers-snapshots",
            Self::VirtualMachine => "virtual-machines-snapshots",
            Self::Image => "images-snapshots",
            Self::Custom => "custom-snapshots",
        }
    }
}

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentType {
    /// A directory tree.
    Filesystem,
    /// A raw disk: one sparse file.
    Block,
}

/// Which volume of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VolumeId {
    /// What it belongs to.
    pub kind: VolumeKind,
    /// What it holds.
    pub content: ContentType,
    /// Its name on disk, project prefix included.
    pub name: String,
}

impl VolumeId {
    /// Names a volume.
    pub fn new(kind: VolumeKind, content: ContentType, name: impl Into<String>) -> Self {
        Self {
            kind,
            content,
            name: name.into(),
        }
    }

    /// The volume's entry in its kind's directory: block volumes carry a suffix so that an image may be there in both forms.
    pub(crate) fn entry(&self) -> String {
        entry_name(&self.name, self.content)
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.folder(), self.name)
    }
}

/// Suffix of the file of a block volume.
pub(crate) const BLOCK_SUFFIX: &str = ".raw";

/// The directory entry of a volume or snapshot.
pub(crate) fn entry_name(name: &str, content: ContentType) -> String {
    match content {
        ContentType::Filesystem => name.to_owned(),
        ContentType::Block => format!("{name}{BLOCK_SUFFIX}"),
    }
}

/// Checks a name that becomes a directory entry.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "it is longer than 200 bytes"
    } else if name.starts_with('.') {
        "a leading dot is reserved for temporary names"
    } else if name.ends_with(BLOCK_SUFFIX) {
        "the ending .raw is reserved for block volumes"
    } else if name.contains('/') {
        "it contains a slash"
    } else if name.chars().any(char::is_control) {
        "it contains a control character"
    } else {
        return Ok(());
    };
    Err(Error::InvalidName {
        what,
        name: name.to_owned(),
        reason,
    })
}

/// How much of something is used, and how much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Space {
    /// In use.
    pub used: u64,
    /// In use and free together.
    pub total: u64,
}

/// The room in a pool's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub space: Space,
    /// Inodes; zero of zero where the file system does not count them (btrfs).
    pub inodes: Space,
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
