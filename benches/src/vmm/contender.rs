//! How each VMM is told to boot the payload with one vCPU, a serial port and no other device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::json;

use super::payload;
use crate::setting::Setting;

/// A user without any rights, as the daemon would choose one.
const NOBODY: u32 = 65534;

/// What is booted.
pub(crate) struct Guest {
    kernel: PathBuf,
    firmware: PathBuf,
    memory_bytes: u64,
}

impl Guest {
    /// Writes the files.
    pub(crate) fn create(folder: &Path, memory_bytes: u64) -> Result<Self> {
        let guest = Self {
            kernel: folder.join("vmlinux"),
            firmware: folder.join("firmware"),
            memory_bytes,
        };
        for (path, bytes) in [
            (&guest.kernel, payload::kernel()),
            (&guest.firmware, payload::firmware()),
        ] {
            fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(guest)
    }
}

/// Which VMM, and how it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Virga,
    /// QEMU with its own firmware, or with one that ends the measurement at the first instruction.
    Qemu {
        own_firmware: bool,
    },
    Firecracker,
    CloudHypervisor,
}

/// One VMM.
pub(crate) struct Contender {
    /// Name in the report.
    pub(crate) name: &'static str,
    kind: Kind,
    program: Result<PathBuf, String>,
}

impl Contender {
    /// Virga, QEMU, and those others that the user has named.
    pub(crate) fn all(setting: &Setting) -> Vec<Self> {
        let new = |name, kind, program| Self { name, kind, program };
        let qemu = || setting.peer("qemu", "qemu-system-x86_64");
        let mut all = vec![
            new("virga", Kind::Virga, setting.program("virga-vmm")),
            new("qemu microvm", Kind::Qemu { own_firmware: true }, qemu()),
            new("qemu microvm", Kind::Qemu { own_firmware: false }, qemu()),
        ];
        for (name, kind) in [
            ("firecracker", Kind::Firecracker),
            ("cloud-hypervisor", Kind::CloudHypervisor),
        ] {
            if setting.peers.contains_key(name) || crate::setting::find_program(name).is_some() {
                all.push(new(name, kind, setting.peer(name, name)));
            }
        }
        all
    }

    /// Whether it is Virga.
    pub(crate) fn is_ours(&self) -> bool {
        self.kind == Kind::Virga
    }

    /// Whether its guest begins with a firmware of its own.
    pub(crate) fn runs_own_firmware(&self) -> bool {
        matches!(self.kind, Kind::Qemu { own_firmware: true })
    }

    /// Whether the payload is its firmware, so that its memory says nothing.
    pub(crate) fn has_stand_in_firmware(&self) -> bool {
        matches!(self.kind, Kind::Qemu { own_firmware: false })
    }

    /// Why it cannot be measured.
    pub(crate) fn missing(&self) -> Option<String> {
        self.program.as_ref().err().cloned()
    }

    /// The command that boots `guest` with the serial port in `output`.
    pub(crate) fn command(&self, guest: &Guest, folder: &Path, output: &Path) -> Result<Command> {
        let program = self
            .program
            .as_ref()
            .map_err(|reason| anyhow::anyhow!("{reason}"))?;
        let mut command = match self.kind {
            Kind::Virga => virga(program, guest, folder, output)?,
            Kind::Qemu { own_firmware } => qemu(program, guest, output, own_firmware),
            Kind::Firecracker => firecracker(program, guest, folder)?,
            Kind::CloudHypervisor => {
                let mut command = Command::new(program);
                command.arg("--kernel").arg(&guest.kernel);
                command.args([
                    "--cpus",
                    "boot=1",
                    "--memory",
                    &format!("size={}", guest.memory_bytes),
                ]);
                command.args([
                    "--console",
                    "off",
                    "--serial",
                    &format!("file={}", output.display()),
                ]);
                command
            }
        };
        command.stdin(Stdio::null());
        // Firecracker's serial port is its standard output.
        match self.kind {
            Kind::Firecracker => command.stdout(fs::File::options().append(true).open(output)?),
            _ => command.stdout(Stdio::null()),
        };
        Ok(command)
    }
}

fn virga(program: &Path, guest: &Guest, folder: &Path, output: &Path) -> Result<Command> {
    let config = folder.join("config.json");
    let run_dir = folder.join("run");
    let text = json!({
        "name": "bench", "vcpus": 1, "memory_bytes": guest.memory_bytes,
        "kernel": { "path": guest.kernel, "cmdline": "console=ttyS0", "protocol": "pvh" },
        "serial": { "log": output, "socket": "console.sock" },
        "rng": false,
        "run_dir": run_dir,
        "sandbox": { "uid": NOBODY, "gid": NOBODY, "seccomp": true },
    });
    fs::write(&config, text.to_string()).context("cannot write a configuration")?;
    let mut command = Command::new(program);
    command.arg("--config").arg(config);
    Ok(command)
}

fn qemu(program: &Path, guest: &Guest, output: &Path, own_firmware: bool) -> Command {
    // An unpacked package has its libraries and firmware beside it.
    let mut command = if program.is_dir() {
        let mut command = Command::new(program.join("usr/bin/qemu-system-x86_64"));
        let libraries =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| program.join(folder));
        command.env(
            "LD_LIBRARY_PATH",
            format!("{}:{}", libraries[0].display(), libraries[1].display()),
        );
        for folder in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(program.join(folder));
        }
        command
    } else {
        Command::new(program)
    };
    // The least that its documentation offers (docs/system/i386/microvm.rst). Some hosts' KVM (KVM-PVM) shows
    // IA32_ARCH_CAPABILITIES but refuses to have it set, on which QEMU gives up.
    command.args([
        "-M",
        "microvm,accel=kvm,pit=off,pic=off,rtc=off",
        "-cpu",
        "host,-arch-capabilities",
        "-smp",
        "1",
    ]);
    command.arg("-m").arg(format!("{}M", guest.memory_bytes >> 20));
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-serial").arg(format!("file:{}", output.display()));
    command
        .arg("-kernel")
        .arg(&guest.kernel)
        .args(["-append", "console=ttyS0"]);
    if !own_firmware {
        command.arg("-bios").arg(&guest.firmware);
    }
    command
}

fn firecracker(program: &Path, guest: &Guest, folder: &Path) -> Result<Command> {
    let config = folder.join("config.json");
    let text = json!({
        "boot-source": { "kernel_image_path": guest.kernel, "boot_args": "console=ttyS0" },
        "drives": [],
        "machine-config": { "vcpu_count": 1, "mem_size_mib": guest.memory_bytes >> 20 },
    });
    fs::write(&config, text.to_string()).context("cannot write a configuration")?;
    let mut command = Command::new(program);
    command.args(["--no-api", "--config-file"]).arg(config);
    Ok(command)
}
