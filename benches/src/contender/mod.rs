//! The VMMs that take part, and how each is told to run the same guest. One file a VMM says it in that VMM's words.

mod firecracker;
mod hypervisor;
mod qemu;
mod running;
mod virga;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, anyhow};

use crate::setting::{Setting, find_program};
use qemu::Machine;
pub(crate) use running::Running;

/// What is run, for every VMM alike.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// An ELF kernel with a PVH entry.
    pub(crate) kernel: PathBuf,
    /// Its initrd.
    pub(crate) initrd: Option<PathBuf>,
    /// Its command line.
    pub(crate) cmdline: String,
    /// A firmware that stands in for QEMU's own where only the first instruction is of interest.
    pub(crate) firmware: Option<PathBuf>,
    /// Bytes of memory, whole MiB.
    pub(crate) memory_bytes: u64,
    /// Processors.
    pub(crate) vcpus: u8,
    /// A raw disk.
    pub(crate) disk: Option<PathBuf>,
    /// An existing tap.
    pub(crate) tap: Option<String>,
    /// Whether there is a socket device.
    pub(crate) vsock: bool,
    /// Whether virtio devices are on a PCI bus, where a VMM has the choice.
    pub(crate) pci: bool,
}

impl Guest {
    /// A guest with one processor and a serial port.
    pub(crate) fn new(kernel: PathBuf, memory_bytes: u64) -> Self {
        Self {
            kernel,
            initrd: None,
            cmdline: "console=ttyS0".to_owned(),
            firmware: None,
            memory_bytes,
            vcpus: 1,
            disk: None,
            tap: None,
            vsock: false,
            pci: true,
        }
    }

    fn mebibytes(&self) -> u64 {
        self.memory_bytes >> 20
    }
}

/// The address of every guest's network card.
const MAC: &str = "02:00:00:00:00:02";
/// Context id of every guest's socket device.
const CID: u32 = 42;

/// Whether the host's kernel serves network queues; then those VMMs that can have it do so.
fn vhost_net() -> bool {
    Path::new("/dev/vhost-net").exists()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Virga,
    Qemu(Machine),
    Firecracker,
    CloudHypervisor,
}

/// One VMM.
#[derive(Clone)]
pub(crate) struct Contender {
    /// Name in the report.
    pub(crate) name: &'static str,
    kind: Kind,
    program: Result<PathBuf, String>,
}

impl Contender {
    fn new(name: &'static str, kind: Kind, program: Result<PathBuf, String>) -> Self {
        Self { name, kind, program }
    }

    /// Virga.
    pub(crate) fn virga(setting: &Setting) -> Self {
        Self::new("virga", Kind::Virga, setting.program("virga-vmm"))
    }

    /// QEMU's machine for microVMs.
    pub(crate) fn qemu_microvm(setting: &Setting) -> Self {
        let program = setting.peer("qemu", "qemu-system-x86_64");
        Self::new("qemu microvm", Kind::Qemu(Machine::Microvm), program)
    }

    /// QEMU's machine for everything else.
    pub(crate) fn qemu_q35(setting: &Setting) -> Self {
        let program = setting.peer("qemu", "qemu-system-x86_64");
        Self::new("qemu q35", Kind::Qemu(Machine::Q35), program)
    }

    /// Firecracker, which takes part only when the user has it.
    pub(crate) fn firecracker(setting: &Setting) -> Option<Self> {
        Self::if_there(setting, "firecracker", Kind::Firecracker)
    }

    /// Cloud Hypervisor, which takes part only when the user has it.
    pub(crate) fn cloud_hypervisor(setting: &Setting) -> Option<Self> {
        Self::if_there(setting, "cloud-hypervisor", Kind::CloudHypervisor)
    }

    fn if_there(setting: &Setting, name: &'static str, kind: Kind) -> Option<Self> {
        let there = setting.peers.contains_key(name) || find_program(name).is_some();
        there.then(|| Self::new(name, kind, setting.peer(name, name)))
    }

    /// Whether it is Virga.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == Kind::Virga
    }

    /// Why it cannot be measured.
    pub(crate) fn missing(&self) -> Option<String> {
        self.program.as_ref().err().cloned()
    }

    /// Its program, where that is one file.
    pub(crate) fn program_file(&self) -> Result<PathBuf, String> {
        let program = self.program.clone()?;
        match self.kind {
            Kind::Qemu(_) => Ok(qemu::program_file(&program)),
            _ => Ok(program),
        }
    }

    /// Why it cannot run this guest, though it is there.
    pub(crate) fn cannot_run(&self, guest: &Guest) -> Option<String> {
        match self.kind {
            Kind::Qemu(_) if guest.vsock && !Path::new("/dev/vhost-vsock").exists() => {
                Some("its socket device needs /dev/vhost-vsock, which this host lacks".to_owned())
            }
            _ => None,
        }
    }

    /// The command that runs `guest` with the serial port in `output` and whatever else it leaves in `folder`.
    pub(crate) fn command(&self, guest: &Guest, folder: &Path, output: &Path) -> Result<Command> {
        let program = self.program.as_ref().map_err(|reason| anyhow!("{reason}"))?;
        let mut command = match self.kind {
            Kind::Virga => virga::command(program, guest, folder, output)?,
            Kind::Qemu(machine) => qemu::command(program, machine, guest, output),
            Kind::Firecracker => firecracker::command(program, guest, folder)?,
            Kind::CloudHypervisor => hypervisor::command(program, guest, folder, output),
        };
        command.stdin(Stdio::null());
        // Firecracker's serial port is its standard output.
        match self.kind {
            Kind::Firecracker => command.stdout(std::fs::File::options().append(true).open(output)?),
            _ => command.stdout(Stdio::null()),
        };
        Ok(command)
    }
}
