//! QEMU with its `microvm` or its `q35` machine, each the least that its documentation offers
//! (docs/system/i386/microvm.rst), with the fastest back ends that the host has.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CID, Guest, MAC};

/// Which machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    /// Without PCI.
    Microvm,
    /// A PC.
    Q35,
}

/// The program in an unpacked package, or the program itself.
pub(super) fn program_file(program: &Path) -> PathBuf {
    match program.is_dir() {
        true => program.join("usr/bin/qemu-system-x86_64"),
        false => program.to_owned(),
    }
}

pub(super) fn command(program: &Path, machine: Machine, guest: &Guest, output: &Path) -> Command {
    let mut command = Command::new(program_file(program));
    // An unpacked package has its libraries and firmware beside it.
    if program.is_dir() {
        let libraries =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| program.join(folder));
        command.env(
            "LD_LIBRARY_PATH",
            format!("{}:{}", libraries[0].display(), libraries[1].display()),
        );
        for folder in ["usr/share/qemu", "usr/share/seabios"] {
            command.arg("-L").arg(program.join(folder));
        }
    }
    // Some hosts' KVM (KVM-PVM) shows IA32_ARCH_CAPABILITIES but refuses to have it set, on which QEMU gives up.
    let machine_options = match machine {
        Machine::Microvm => "microvm,accel=kvm,pit=off,pic=off,rtc=off",
        Machine::Q35 => "q35,accel=kvm",
    };
    command.args(["-M", machine_options, "-cpu", "host,-arch-capabilities"]);
    command.args(["-smp", &guest.vcpus.to_string()]);
    command.args(["-m", &format!("{}M", guest.mebibytes())]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-serial").arg(format!("file:{}", output.display()));
    command
        .arg("-kernel")
        .arg(&guest.kernel)
        .args(["-append", &guest.cmdline]);
    if let Some(initrd) = &guest.initrd {
        command.arg("-initrd").arg(initrd);
    }
    if let Some(firmware) = &guest.firmware {
        command.arg("-bios").arg(firmware);
    }
    let bus = match machine {
        Machine::Microvm => "device",
        Machine::Q35 => "pci",
    };
    if let Some(disk) = &guest.disk {
        command.args(["-object", "iothread,id=io"]);
        command.arg("-drive").arg(format!(
            "if=none,id=disk,format=raw,aio=io_uring,cache=writeback,file={}",
            disk.display()
        ));
        command.args(["-device", &format!("virtio-blk-{bus},drive=disk,iothread=io")]);
    }
    if let Some(tap) = &guest.tap {
        let vhost = if super::vhost_net() { ",vhost=on" } else { "" };
        command.args([
            "-netdev",
            &format!("tap,id=net,ifname={tap},script=no,downscript=no{vhost}"),
        ]);
        command.args(["-device", &format!("virtio-net-{bus},netdev=net,mac={MAC}")]);
    }
    if guest.vsock {
        command.args(["-device", &format!("vhost-vsock-{bus},guest-cid={CID}")]);
    }
    command
}
