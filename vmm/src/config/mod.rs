//! What a VM is made of: the JSON document that `virga-vmm --config` reads. One file a part of the machine.
//!
//! The daemon writes it, people may too, so unknown fields are refused and every problem is reported with the
//! field's name, the offending value and what would be accepted. This module needs neither KVM nor root.
//!
//! Relative paths are taken from `run_dir`.

mod balloon;
mod console;
mod cpu;
mod disk;
mod error;
mod file_system;
mod gdb;
mod kernel;
mod limits;
mod log;
mod memory;
mod names;
mod net;
mod new_device;
mod numbers;
mod pmem;
mod sandbox;
mod serial;
mod smbios;
mod vsock;
mod watchdog;

use std::fs;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::arch::topology::Topology;
use crate::host_file;
pub use crate::mac::MacAddress;
pub use balloon::BalloonConfig;
pub use console::ConsolePortConfig;
pub use cpu::{CpuConfig, PinningConfig};
pub use disk::{BackingConfig, DiskConfig, MAX_LAYERS};
pub use error::ConfigError;
pub use file_system::FileSystemConfig;
pub use gdb::GdbConfig;
pub use kernel::{BootProtocol, KernelConfig, MAX_CMDLINE_LEN};
pub use limits::{Limits, check_limits};
pub use log::{LogConfig, LogFormat, LogLevel};
pub use memory::{HugePages, MemoryConfig, MemoryHotplugConfig, NodeConfig};
pub use names::Names;
pub use net::NetConfig;
pub use new_device::{NewDevice, VSOCK_ID};
pub use numbers::Numbers;
pub use pmem::PmemConfig;
pub use sandbox::{Rlimits, SandboxConfig};
pub use serial::SerialConfig;
pub use smbios::SmbiosConfig;
pub use vsock::VsockConfig;
pub use watchdog::{WatchdogAction, WatchdogConfig};

use error::refuse;
use names::check_path;

/// The most vCPUs one VM may have.
pub const MAX_VCPUS: u8 = 32;
/// The least guest memory: below it not even the boot structures and a tiny kernel fit.
pub const MIN_MEMORY_BYTES: u64 = 2 << 20;
/// The most guest memory. It keeps every address, the 64-bit PCI window included, below 2^41.
pub const MAX_MEMORY_BYTES: u64 = 1 << 40;
/// The most disks, nets and file systems together: one function-0 device per PCI slot, and some slots are taken.
pub const MAX_DISKS_AND_NETS: usize = 24;
/// A configuration file beyond this size is a mistake.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

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

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmConfig {
    /// Name, for messages.
    pub name: String,
    /// Number of vCPUs, 1 to 32.
    #[serde(default = "one")]
    pub vcpus: u8,
    /// What vCPUs look like, and how many there may be.
    #[serde(default)]
    pub cpu: CpuConfig,
    /// Guest memory, a multiple of 4096.
    pub memory_bytes: u64,
    /// How guest memory is made.
    #[serde(default)]
    pub memory: MemoryConfig,
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
    /// Shared file systems, in the order the guest shall find them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub file_systems: Vec<FileSystemConfig>,
    /// Virtio entropy device.
    #[serde(default = "yes")]
    pub rng: bool,
    /// Persistent memory: files in the guest's address space.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pmem: Vec<PmemConfig>,
    /// Memory balloon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balloon: Option<BalloonConfig>,
    /// Virtio console (`hvc0`), joined to the same console socket and log as the serial port.
    #[serde(default)]
    pub console: bool,
    /// Further ports of the virtio console, in the order the guest shall find them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub console_ports: Vec<ConsolePortConfig>,
    /// What the machine says about itself; without it, nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smbios: Option<SmbiosConfig>,
    /// The watchdog; without it, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<WatchdogConfig>,
    /// The VM generation id at the start; without it, there is no such device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation_id: Option<Uuid>,
    /// Where a debugger may come; without it, none can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gdb: Option<GdbConfig>,
    /// Folder for the sockets, `pid.json` and `exit.json`.
    pub run_dir: PathBuf,
    /// Control socket; a path, or `fd:N` for one that listens.
    #[serde(default = "default_control_socket")]
    pub control_socket: PathBuf,
    /// The log of the process.
    #[serde(default)]
    pub log: LogConfig,
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

    /// `path` as seen from the run directory; descriptors (`fd:N`) stay what they are.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        host_file::resolve(&self.run_dir, path)
    }

    /// The most vCPUs the VM may ever have.
    #[must_use]
    pub fn max_vcpus(&self) -> u8 {
        self.cpu.max.unwrap_or(self.vcpus)
    }

    /// How all vCPUs that the VM may ever have are arranged.
    #[must_use]
    pub fn topology(&self) -> Topology {
        self.cpu
            .topology
            .unwrap_or_else(|| Topology::flat(self.max_vcpus()))
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
        self.cpu.check(self.vcpus)?;
        self.check_memory()?;
        check_path("run_dir", &self.run_dir)?;
        self.check_names().map(drop)?;
        if self.watchdog.is_some() && self.transport != Transport::Pci {
            let problem = "the watchdog is a PCI device; use \"transport\": \"pci\"";
            return Err(refuse("watchdog", "set", problem));
        }
        if let Some(smbios) = &self.smbios {
            smbios.check()?;
        }
        self.sandbox.check()
    }

    /// Checks everything that may have a name or a descriptor which others must not have. Returns what is taken.
    fn check_names(&self) -> Result<Names, ConfigError> {
        let mut names = self.check_devices()?;
        self.kernel.check(&mut names)?;
        names.take_path("control_socket", &self.control_socket)?;
        self.serial.check(&mut names)?;
        if let Some(gdb) = &self.gdb {
            gdb.check(&mut names)?;
        }
        Ok(names)
    }

    /// Numbers of all inherited descriptors that the configuration names.
    #[must_use]
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.check_names()
            .map_or_else(|_| Vec::new(), |names| names.descriptors().collect())
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
        self.memory.check(bytes, self.max_vcpus())
    }

    /// Back ends in other processes need memory that these can map.
    fn check_shared(&self) -> Result<(), ConfigError> {
        let disk = |index| format!("disks[{index}].vhost_user");
        let net = |index| format!("nets[{index}].vhost_user");
        let disks = self.disks.iter().position(|disk| disk.vhost_user.is_some());
        let nets = self.nets.iter().position(|net| net.vhost_user.is_some());
        let file_systems = (!self.file_systems.is_empty()).then(|| "file_systems".to_owned());
        let who = disks.map(disk).or(nets.map(net)).or(file_systems);
        match who {
            Some(who) if !self.memory.shared => Err(refuse(
                "memory.shared",
                false,
                format!("`{who}` needs memory that its back end can map; set it to true"),
            )),
            _ => Ok(()),
        }
    }

    /// Checks all devices. Returns what they have taken.
    pub fn check_devices(&self) -> Result<Names, ConfigError> {
        let (disks, nets) = (self.disks.len(), self.nets.len());
        let (file_systems, pmem) = (self.file_systems.len(), self.pmem.len());
        if disks + nets + file_systems + pmem > MAX_DISKS_AND_NETS {
            let count =
                format!("{disks} disks and {nets} nets and {file_systems} file systems and {pmem} pmem");
            return Err(refuse(
                "disks, nets, file_systems, pmem",
                count,
                format!("at most {MAX_DISKS_AND_NETS} together"),
            ));
        }
        let mut names = Names::default();
        // The other devices have names that nobody chose.
        let fixed = [
            ("serial", true),
            ("rng", self.rng),
            ("console", self.console),
            (VSOCK_ID, self.vsock.is_some()),
            ("watchdog", self.watchdog.is_some()),
        ];
        for (id, _) in fixed.into_iter().filter(|(_, present)| *present) {
            names.take_id(id, id)?;
        }
        for (index, disk) in self.disks.iter().enumerate() {
            disk.check(&format!("disks[{index}]"), &mut names)?;
        }
        for (index, net) in self.nets.iter().enumerate() {
            net.check(&format!("nets[{index}]"), &mut names)?;
        }
        for (index, pmem) in self.pmem.iter().enumerate() {
            pmem.check(&format!("pmem[{index}]"), &mut names)?;
        }
        if let Some(vsock) = &self.vsock {
            vsock.check("vsock", &mut names)?;
        }
        if self.memory.hotplug.is_some() {
            names.take_id("memory.hotplug", "memory")?;
        }
        if let Some(balloon) = &self.balloon {
            names.take_id("balloon", "balloon")?;
            balloon.check(self)?;
        }
        for (index, file_system) in self.file_systems.iter().enumerate() {
            file_system.check(&format!("file_systems[{index}]"), &mut names)?;
        }
        console::check_ports(&self.console_ports, self.console, &mut names)?;
        self.check_shared()?;
        Ok(names)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
