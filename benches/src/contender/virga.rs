//! `virga-vmm`, as the daemon starts it: its own user, no capabilities, seccomp filters.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{CID, Guest, MAC};

/// A user without any rights, as the daemon would choose one.
const NOBODY: u32 = 65534;

pub(super) fn command(program: &Path, guest: &Guest, folder: &Path, output: &Path) -> Result<Command> {
    let config = folder.join("config.json");
    fs::write(&config, document(guest, folder, output).to_string())
        .context("cannot write a configuration")?;
    let mut command = Command::new(program);
    command.arg("--config").arg(config);
    Ok(command)
}

fn document(guest: &Guest, folder: &Path, output: &Path) -> Value {
    let mut document = json!({
        "name": "bench", "vcpus": guest.vcpus, "memory_bytes": guest.memory_bytes,
        "kernel": { "path": guest.kernel, "cmdline": guest.cmdline },
        "serial": { "log": output, "socket": "console.sock" },
        "transport": if guest.pci { "pci" } else { "mmio" },
        "rng": false,
        "run_dir": folder.join("run"),
        "sandbox": { "uid": NOBODY, "gid": NOBODY, "seccomp": true },
    });
    match &guest.initrd {
        Some(initrd) => document["kernel"]["initrd"] = json!([initrd]),
        None => document["kernel"]["protocol"] = json!("pvh"),
    }
    if let Some(disk) = &guest.disk {
        document["disks"] = json!([{ "id": "disk", "path": disk }]);
    }
    if let Some(tap) = &guest.tap {
        document["nets"] = json!([{ "id": "net", "tap": tap, "mac": MAC, "vhost": super::vhost_net() }]);
    }
    if guest.vsock {
        document["vsock"] = json!({ "cid": CID, "socket": "vsock.sock" });
    }
    document
}
