//! Cloud Hypervisor, by its command line.

use std::path::Path;
use std::process::Command;

use super::{CID, Guest, MAC};

pub(super) fn command(program: &Path, guest: &Guest, folder: &Path, output: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--kernel")
        .arg(&guest.kernel)
        .args(["--cmdline", &guest.cmdline]);
    if let Some(initrd) = &guest.initrd {
        command.arg("--initramfs").arg(initrd);
    }
    command.args(["--cpus", &format!("boot={}", guest.vcpus)]);
    command.args(["--memory", &format!("size={}", guest.memory_bytes)]);
    command.args([
        "--console",
        "off",
        "--serial",
        &format!("file={}", output.display()),
    ]);
    if let Some(disk) = &guest.disk {
        command.arg("--disk").arg(format!("path={}", disk.display()));
    }
    if let Some(tap) = &guest.tap {
        command.args(["--net", &format!("tap={tap},mac={MAC}")]);
    }
    if guest.vsock {
        let socket = folder.join("vsock.sock");
        command
            .arg("--vsock")
            .arg(format!("cid={CID},socket={}", socket.display()));
    }
    command
}
