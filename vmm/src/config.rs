//! What a VM is made of: the JSON document that `virga-vmm --config` reads.
//!
//! The daemon writes it, people may too, so unknown fields are refused and every problem is reported with the
//! field's name, the offending value and what would be accepted. This module needs neither KVM nor root.
//!
//! Relative paths are taken from `run_dir`.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use crate::mac::MacAddress;

/// The most vCPUs one VM may have.
pub const MAX_VCPUS: u8 = 32;
/// The least guest memory: below it not even the boot structures and a tiny kernel fit.
pub const MIN_MEMORY_BYTES: u64 = 2 << 20;
/// The most guest memory. It keeps every address, the 64-bit PCI window included, below 2^41.
pub const MAX_MEMORY_BYTES: u64 = 1 << 40;
/// Linux' `COMMAND_LINE_SIZE` on x86, less the closing NUL.
pub const MAX_CMDLINE_LEN: usize = 2047;
/// The most disks and nets together: one function-0 device per PCI slot, and some slots are taken.
pub const MAX_DISKS_AND_NETS: usize = 24;
/// A configuration file beyond this size is a mistake.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Everything that is wrong with a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration {path}: {source}; check that the path is right and readable")]
    Read {
        /// Path as it was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not JSON of the expected shape.
    #[error("the configuration is not valid: {source}; see `virga-vmm --help` for a full example")]
    Parse {
        /// Line, column and field as the parser saw them.
        #[from]
        source: serde_json::Error,
    },
    /// A field has a value that cannot be used.
    #[error("configuration field `{field}` is {value}: {problem}")]
    Value {
        /// Field, in the notation of the document: `disks[0].path`.
        field: String,
        /// The value that was asked for.
        value: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
}

fn refuse(field: impl Into<String>, value: impl ToString, problem: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        field: field.into(),
        value: value.to_string(),
        problem: problem.into(),
    }
}

/// How virtio devices are attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// virtio-pci with MSI-X.
    #[default]
    Pci,
    /// virtio-mmio, announced by ACPI.
    Mmio,
}

/// How the kernel is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootProtocol {
    /// The 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst §1.15).
    Linux64,
    /// PVH: 32-bit protected mode with an `hvm_start_info`.
    Pvh,
}

/// Kernel, initrds and command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelConfig {
    /// ELF `vmlinux` or bzImage.
    pub path: PathBuf,
    /// Kernel command line.
    #[serde(default)]
    pub cmdline: String,
    /// Initial RAM file systems. They are laid out one after the other, each at a page boundary.
    #[serde(default)]
    pub initrd: Vec<PathBuf>,
    /// Boot protocol; without it, `linux64` unless only PVH is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<BootProtocol>,
}

/// The 16550 serial console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialConfig {
    /// Where output is appended; at most 1 MiB is kept here and as much in `LOG.old`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// Unix socket on which clients attach to the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

impl Default for SerialConfig {
    fn default() -> Self {
        Self {
            log: Some("console.log".into()),
            socket: Some("console.sock".into()),
        }
    }
}

/// A virtio block device over a raw file or a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// Raw image or host block device.
    pub path: PathBuf,
    /// Refuse writes.
    #[serde(default)]
    pub read_only: bool,
    /// What the guest reads as the disk's serial number; at most 20 ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

/// A virtio network device over a tap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetConfig {
    /// Name of the device within the VM.
    pub id: String,
    /// Name of an existing tap link to open; either this or `fd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// Number of an inherited, open tap file; either this or `tap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<RawFd>,
    /// Hardware address of the guest's interface.
    pub mac: MacAddress,
    /// MTU announced to the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

/// A virtio socket device with Firecracker's mapping to unix sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VsockConfig {
    /// The guest's context id, 3 or more.
    pub cid: u32,
    /// Unix socket on which host programs connect.
    pub socket: PathBuf,
}

/// What the process gives up once everything is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// User to become; without it the user stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group to become; without it, the same number as `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Install the system call filters.
    #[serde(default = "yes")]
    pub seccomp: bool,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            uid: None,
            gid: None,
            seccomp: true,
        }
    }
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// Name, for messages.
    pub name: String,
    /// Number of vCPUs, 1 to 32.
    #[serde(default = "one")]
    pub vcpus: u8,
    /// Guest memory, a multiple of 4096.
    pub memory_bytes: u64,
    /// How virtio devices are attached.
    #[serde(default)]
    pub transport: Transport,
    /// What is booted.
    pub kernel: KernelConfig,
    /// The serial console.
    #[serde(default)]
    pub serial: SerialConfig,
    /// Disks, in the order the guest shall find them.
    #[serde(default)]
    pub disks: Vec<DiskConfig>,
    /// Network interfaces, in the order the guest shall find them.
    #[serde(default)]
    pub nets: Vec<NetConfig>,
    /// Virtio socket device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<VsockConfig>,
    /// Virtio entropy device.
    #[serde(default = "yes")]
    pub rng: bool,
    /// Virtio console (`hvc0`), joined to the same console socket and log as the serial port.
    #[serde(default)]
    pub console: bool,
    /// Folder for the sockets, `pid.json` and `exit.json`.
    pub run_dir: PathBuf,
    /// Control socket.
    #[serde(default = "default_control_socket")]
    pub control_socket: PathBuf,
    /// What the process gives up.
    #[serde(default)]
    pub sandbox: SandboxConfig,
    /// Run at once; otherwise wait for `PUT /start`.
    #[serde(default = "yes")]
    pub autostart: bool,
}

fn yes() -> bool {
    true
}

fn one() -> u8 {
    1
}

fn default_control_socket() -> PathBuf {
    "control.sock".into()
}

impl VmConfig {
    /// Reads, parses and checks a configuration file.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let size = fs::metadata(path).map_err(read)?.len();
        if size > MAX_CONFIG_BYTES {
            return Err(refuse(
                "(file size)",
                size,
                format!("at most {MAX_CONFIG_BYTES} bytes are read"),
            ));
        }
        Self::from_json(&fs::read(path).map_err(read)?)
    }

    /// Parses and checks a configuration.
    pub fn from_json(text: &[u8]) -> Result<Self, ConfigError> {
        let config: Self = serde_json::from_slice(text)?;
        config.check()?;
        Ok(config)
    }

    /// `path` as seen from the run directory.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.run_dir.join(path)
    }

    /// Checks every rule that does not need a file, a socket or KVM.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() || self.name.len() > 128 || self.name.chars().any(char::is_control) {
            return Err(refuse(
                "name",
                format!("{:?}", self.name),
                "use 1 to 128 printable characters",
            ));
        }
        if self.vcpus == 0 || self.vcpus > MAX_VCPUS {
            return Err(refuse("vcpus", self.vcpus, format!("use 1 to {MAX_VCPUS}")));
        }
        self.check_memory()?;
        self.check_kernel()?;
        for (field, path) in [
            ("run_dir", Some(&self.run_dir)),
            ("control_socket", Some(&self.control_socket)),
        ]
        .into_iter()
        .chain([
            ("serial.log", self.serial.log.as_ref()),
            ("serial.socket", self.serial.socket.as_ref()),
            ("vsock.socket", self.vsock.as_ref().map(|vsock| &vsock.socket)),
        ]) {
            if let Some(path) = path {
                check_path(field, path)?;
            }
        }
        self.check_devices()?;
        if self.sandbox.gid.is_some() && self.sandbox.uid.is_none() {
            return Err(refuse(
                "sandbox.gid",
                format!("{:?}", self.sandbox.gid),
                "set sandbox.uid with it",
            ));
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), ConfigError> {
        let bytes = self.memory_bytes;
        if !bytes.is_multiple_of(4096) {
            return Err(refuse("memory_bytes", bytes, "use a multiple of 4096"));
        }
        if !(MIN_MEMORY_BYTES..=MAX_MEMORY_BYTES).contains(&bytes) {
            let problem = format!("use {MIN_MEMORY_BYTES} to {MAX_MEMORY_BYTES}");
            return Err(refuse("memory_bytes", bytes, problem));
        }
        Ok(())
    }

    fn check_kernel(&self) -> Result<(), ConfigError> {
        check_path("kernel.path", &self.kernel.path)?;
        for (index, path) in self.kernel.initrd.iter().enumerate() {
            check_path(&format!("kernel.initrd[{index}]"), path)?;
        }
        let cmdline = &self.kernel.cmdline;
        if cmdline.len() > MAX_CMDLINE_LEN {
            let problem = format!("the kernel takes at most {MAX_CMDLINE_LEN} bytes");
            return Err(refuse(
                "kernel.cmdline",
                format!("{} bytes long", cmdline.len()),
                problem,
            ));
        }
        if cmdline.chars().any(|c| !c.is_ascii() || c.is_ascii_control()) {
            let problem = "only printable ASCII characters and spaces are allowed";
            return Err(refuse("kernel.cmdline", format!("{cmdline:?}"), problem));
        }
        Ok(())
    }

    fn check_devices(&self) -> Result<(), ConfigError> {
        if self.disks.len() + self.nets.len() > MAX_DISKS_AND_NETS {
            let count = format!("{} disks and {} nets", self.disks.len(), self.nets.len());
            return Err(refuse(
                "disks, nets",
                count,
                format!("at most {MAX_DISKS_AND_NETS} together"),
            ));
        }
        let mut ids = BTreeSet::new();
        for (index, disk) in self.disks.iter().enumerate() {
            check_id(&format!("disks[{index}].id"), &disk.id, &mut ids)?;
            check_path(&format!("disks[{index}].path"), &disk.path)?;
            if let Some(serial) = &disk.serial
                && (serial.len() > 20 || !serial.chars().all(|c| c.is_ascii_graphic()))
            {
                let problem = "use at most 20 printable ASCII characters (virtio 1.3 §5.2.6)";
                return Err(refuse(
                    format!("disks[{index}].serial"),
                    format!("{serial:?}"),
                    problem,
                ));
            }
        }
        let (mut macs, mut fds) = (BTreeSet::new(), BTreeSet::new());
        for (index, net) in self.nets.iter().enumerate() {
            let field = |name: &str| format!("nets[{index}].{name}");
            check_id(&field("id"), &net.id, &mut ids)?;
            match (&net.tap, net.fd) {
                (Some(tap), None) if tap.is_empty() || tap.len() > 15 || tap.contains(['/', ' ', '\0']) => {
                    let problem = "a link's name has 1 to 15 characters without / and spaces";
                    return Err(refuse(field("tap"), format!("{tap:?}"), problem));
                }
                (Some(_), None) => {}
                (None, Some(fd)) if fd < 3 => {
                    return Err(refuse(
                        field("fd"),
                        fd,
                        "0, 1 and 2 are the standard streams; use an inherited tap",
                    ));
                }
                (None, Some(fd)) if !fds.insert(fd) => {
                    return Err(refuse(field("fd"), fd, "another interface uses this descriptor"));
                }
                (None, Some(_)) => {}
                _ => return Err(refuse(field("tap"), "not clear", "give either `tap` or `fd`")),
            }
            if !macs.insert(net.mac) {
                return Err(refuse(field("mac"), net.mac, "another interface has it already"));
            }
            if let Some(mtu) = net.mtu
                && mtu < 68
            {
                return Err(refuse(field("mtu"), mtu, "use 68 to 65535 (virtio 1.3 §5.1.4)"));
            }
        }
        if let Some(vsock) = &self.vsock
            && (vsock.cid < 3 || vsock.cid == u32::MAX)
        {
            let problem = "0, 1, 2 and 4294967295 are reserved (virtio 1.3 §5.10.4); use 3 or more";
            return Err(refuse("vsock.cid", vsock.cid, problem));
        }
        Ok(())
    }
}

fn check_path(field: &str, path: &Path) -> Result<(), ConfigError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(refuse(field, format!("{path:?}"), "give the path of a file"));
    }
    Ok(())
}

fn check_id(field: &str, id: &str, seen: &mut BTreeSet<String>) -> Result<(), ConfigError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
        return Err(refuse(
            field,
            format!("{id:?}"),
            "use 1 to 64 letters, digits, `-`, `_` and `.`",
        ));
    }
    if !seen.insert(id.to_owned()) {
        return Err(refuse(
            field,
            format!("{id:?}"),
            "another device has this id already",
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
