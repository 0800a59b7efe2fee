//! Disks.

use std::path::{Path, PathBuf};

use devices::virtio::block::{EngineKind, Format, QUEUES_MAX, SERIAL_LEN};
use serde::{Deserialize, Serialize};

use super::error::{ConfigError, refuse};
use super::names::Names;
use super::{Limits, check_limits};
use crate::host_file;

/// The most files that one disk consists of.
pub const MAX_LAYERS: usize = 16;

/// A virtio block device over a raw file, an image or a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// Raw file, image or host block device, or `fd:N`; empty if there is `vhost_user`.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub path: PathBuf,
    /// Instead of a path: the socket of a vhost-user back end that has the disk, or `fd:N` for one that is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost_user: Option<PathBuf>,
    /// `raw` or `qcow2`. Never guessed: a guest could write an image's header to its raw disk.
    #[serde(default)]
    pub format: Format,
    /// What an image stands on, one below the other, instead of what it says itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backing: Vec<BackingConfig>,
    /// Open what an image says it stands on. Only for images that are trusted: they can name any file that this process
    /// may read.
    #[serde(default)]
    pub follow_backing: bool,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// Go past the host's page cache.
    #[serde(default)]
    pub direct: bool,
    /// With `direct`, a descriptor (`fd:N`) of the same file that was opened with `O_DIRECT`. Only needed for a disk that is
    /// added while the VM runs, which cannot open anything then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_path: Option<PathBuf>,
    /// How requests reach the host's kernel.
    #[serde(default)]
    pub engine: EngineKind,
    /// What the guest reads as the disk's serial number; at most 20 ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Queues, each with a thread of its own; an image has one thread for all.
    #[serde(default = "one_queue")]
    pub queues: u16,
    /// How much the guest may do.
    #[serde(default)]
    pub limits: Limits,
}

/// A file that an image stands on; it is only read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackingConfig {
    /// Raw file, image or host block device, or `fd:N`.
    pub path: PathBuf,
    /// `raw` or `qcow2`.
    #[serde(default)]
    pub format: Format,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn one_queue() -> u16 {
    1
}

impl DiskConfig {
    /// Checks the disk, which the document has at `field`, beside what `names` says is taken.
    pub fn check(&self, field: &str, names: &mut Names) -> Result<(), ConfigError> {
        let field = |name: &str| format!("{field}.{name}");
        names.take_id(&field("id"), &self.id)?;
        if self.queues == 0 || self.queues > QUEUES_MAX {
            let problem = format!("use 1 to {QUEUES_MAX}, no more than there are vCPUs");
            return Err(refuse(field("queues"), self.queues, problem));
        }
        if let Some(socket) = &self.vhost_user {
            names.take_path(&field("vhost_user"), socket)?;
            return self.check_remote(&field);
        }
        names.take_path(&field("path"), &self.path)?;
        if let Some(path) = &self.direct_path {
            if !self.direct || !host_file::is_descriptor(path) {
                let problem = "only `direct` disks have this, and only as `fd:N`";
                return Err(refuse(field("direct_path"), path.display(), problem));
            }
            names.take_path(&field("direct_path"), path)?;
        }
        if let Some(serial) = &self.serial
            && (serial.len() > SERIAL_LEN || !serial.chars().all(|c| c.is_ascii_graphic()))
        {
            let problem = "use at most 20 printable ASCII characters (virtio 1.3 §5.2.6)";
            return Err(refuse(field("serial"), format!("{serial:?}"), problem));
        }
        check_limits(&field("limits"), &self.limits)?;
        self.check_backing(&field, names)
    }

    fn check_backing(&self, field: &impl Fn(&str) -> String, names: &mut Names) -> Result<(), ConfigError> {
        if self.backing.is_empty() && !self.follow_backing {
            return Ok(());
        }
        if self.format == Format::Raw {
            return Err(refuse(
                field("format"),
                "raw",
                "only images in the format `qcow2` stand on other files",
            ));
        }
        if self.follow_backing && !self.backing.is_empty() {
            let problem = "give either `backing`, or `follow_backing` for what the image says";
            return Err(refuse(field("follow_backing"), true, problem));
        }
        if self.backing.len() >= MAX_LAYERS {
            let problem = format!(
                "use at most {}; `qemu-img rebase` shortens a chain",
                MAX_LAYERS - 1
            );
            return Err(refuse(field("backing"), self.backing.len(), problem));
        }
        for (index, backing) in self.backing.iter().enumerate() {
            names.take_path(&field(&format!("backing[{index}].path")), &backing.path)?;
            if backing.format == Format::Raw && index + 1 < self.backing.len() {
                let problem = "a raw file stands on nothing, so it must be the last";
                return Err(refuse(field(&format!("backing[{index}].format")), "raw", problem));
            }
        }
        Ok(())
    }

    /// A back end has the disk and all that is said of one.
    fn check_remote(&self, field: &impl Fn(&str) -> String) -> Result<(), ConfigError> {
        let said = [
            ("path", !is_empty(&self.path)),
            ("format", self.format != Format::Raw),
            ("backing", !self.backing.is_empty()),
            ("follow_backing", self.follow_backing),
            ("read_only", self.read_only),
            ("direct", self.direct),
            ("engine", self.engine != EngineKind::Auto),
            ("serial", self.serial.is_some()),
            ("limits", self.limits != Limits::default()),
        ];
        match said.into_iter().find(|(_, said)| *said) {
            None => Ok(()),
            Some((name, _)) => Err(refuse(
                field(name),
                "given",
                "a vhost-user disk is described to its back end; leave it out here",
            )),
        }
    }
}
