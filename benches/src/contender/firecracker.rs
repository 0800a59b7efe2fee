//! Firecracker, by its configuration file and without its API.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{CID, Guest, MAC};

pub(super) fn command(program: &Path, guest: &Guest, folder: &Path) -> Result<Command> {
    let config = folder.join("config.json");
    fs::write(&config, document(guest, folder).to_string()).context("cannot write a configuration")?;
    let mut command = Command::new(program);
    command.args(["--no-api", "--config-file"]).arg(config);
    Ok(command)
}

fn document(guest: &Guest, folder: &Path) -> Value {
    let mut document = json!({
        "boot-source": { "kernel_image_path": guest.kernel, "boot_args": guest.cmdline },
        "drives": [],
        "machine-config": { "vcpu_count": guest.vcpus, "mem_size_mib": guest.mebibytes() },
    });
    if let Some(initrd) = &guest.initrd {
        document["boot-source"]["initrd_path"] = json!(initrd);
    }
    if let Some(disk) = &guest.disk {
        document["drives"] = json!([{
            "drive_id": "disk", "path_on_host": disk, "is_root_device": false, "is_read_only": false,
            "cache_type": "Writeback", "io_engine": "Async",
        }]);
    }
    if let Some(tap) = &guest.tap {
        document["network-interfaces"] =
            json!([{ "iface_id": "net", "host_dev_name": tap, "guest_mac": MAC }]);
    }
    if guest.vsock {
        document["vsock"] = json!({ "guest_cid": CID, "uds_path": folder.join("vsock.sock") });
    }
    document
}
