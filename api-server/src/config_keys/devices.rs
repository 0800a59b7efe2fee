//! Devices of instances and profiles: which types exist and which keys each takes.

use api::Devices;

use super::values::Kind;
use crate::ApiError;

const DISK: &[(&str, Kind)] = &[
    ("boot.priority", Kind::Uint32),
    (
        "io.bus",
        Kind::OneOf(&["virtio-scsi", "virtio-blk", "nvme", "auto", "9p", "virtiofs"]),
    ),
    ("io.cache", Kind::OneOf(&["none", "writeback", "unsafe"])),
    ("initial.", Kind::Any),
    ("limits.max", Kind::Any),
    ("limits.read", Kind::Any),
    ("limits.write", Kind::Any),
    ("path", Kind::Any),
    ("pool", Kind::Any),
    ("propagation", Kind::Any),
    ("raw.mount.options", Kind::Any),
    ("readonly", Kind::Bool),
    ("recursive", Kind::Bool),
    ("required", Kind::Bool),
    ("shift", Kind::Bool),
    ("size", Kind::Size),
    ("size.state", Kind::Size),
    ("source", Kind::Any),
];

const NIC: &[(&str, Kind)] = &[
    ("boot.priority", Kind::Uint32),
    ("connected", Kind::Bool),
    ("gvrp", Kind::Bool),
    ("host_name", Kind::Any),
    ("hwaddr", Kind::Any),
    ("ipv4.address", Kind::Any),
    ("ipv4.gateway", Kind::OneOf(&["auto", "none"])),
    ("ipv4.host_address", Kind::Any),
    ("ipv4.routes", Kind::Any),
    ("ipv6.address", Kind::Any),
    ("ipv6.gateway", Kind::OneOf(&["auto", "none"])),
    ("ipv6.host_address", Kind::Any),
    ("ipv6.routes", Kind::Any),
    ("limits.egress", Kind::Any),
    ("limits.ingress", Kind::Any),
    ("limits.max", Kind::Any),
    ("limits.priority", Kind::Uint32),
    ("mtu", Kind::Uint32),
    ("name", Kind::Any),
    ("network", Kind::Any),
    (
        "nictype",
        Kind::OneOf(&[
            "bridged", "macvlan", "sriov", "physical", "ipvlan", "p2p", "routed",
        ]),
    ),
    ("parent", Kind::Any),
    ("queue.tx.length", Kind::Uint32),
    ("security.ipv4_filtering", Kind::Bool),
    ("security.ipv6_filtering", Kind::Bool),
    ("security.mac_filtering", Kind::Bool),
    ("security.port_isolation", Kind::Bool),
    ("vlan", Kind::Any),
    ("vlan.tagged", Kind::Any),
];

const PROXY: &[(&str, Kind)] = &[
    ("bind", Kind::OneOf(&["host", "guest", "container", "instance"])),
    ("connect", Kind::Any),
    ("gid", Kind::Uint32),
    ("listen", Kind::Any),
    ("mode", Kind::Any),
    ("nat", Kind::Bool),
    ("proxy_protocol", Kind::Bool),
    ("security.gid", Kind::Uint32),
    ("security.uid", Kind::Uint32),
    ("uid", Kind::Uint32),
];

const UNIX: &[(&str, Kind)] = &[
    ("gid", Kind::Uint32),
    ("major", Kind::Uint32),
    ("minor", Kind::Uint32),
    ("mode", Kind::Any),
    ("path", Kind::Any),
    ("required", Kind::Bool),
    ("source", Kind::Any),
    ("uid", Kind::Uint32),
];

const GPU: &[(&str, Kind)] = &[
    ("gid", Kind::Uint32),
    ("gputype", Kind::OneOf(&["physical", "mdev", "mig", "sriov"])),
    ("id", Kind::Any),
    ("mdev", Kind::Any),
    ("mode", Kind::Any),
    ("pci", Kind::Any),
    ("productid", Kind::Any),
    ("uid", Kind::Uint32),
    ("vendorid", Kind::Any),
];

const PCI: &[(&str, Kind)] = &[("address", Kind::Any)];
const TPM: &[(&str, Kind)] = &[("path", Kind::Any), ("pathrm", Kind::Any)];

fn keys_of(kind: &str) -> Option<&'static [(&'static str, Kind)]> {
    Some(match kind {
        "none" => &[],
        "disk" => DISK,
        "nic" => NIC,
        "proxy" => PROXY,
        "unix-char" | "unix-block" => UNIX,
        "gpu" => GPU,
        "pci" => PCI,
        "tpm" => TPM,
        _ => return None,
    })
}

/// Checks devices: their names, types and keys. Whether what they name exists is for whoever attaches them.
pub fn check_devices(devices: &Devices) -> Result<(), ApiError> {
    for (name, device) in devices {
        check_device(name, device)
            .map_err(|why| ApiError::bad_request(format!("Device validation failed for {name:?}: {why}")))?;
    }
    let roots = devices.values().filter(|device| {
        device.get("type").is_some_and(|kind| kind == "disk")
            && device.get("path").is_some_and(|path| path == "/")
    });
    if roots.count() > 1 {
        return Err(ApiError::bad_request("More than one root disk device found"));
    }
    Ok(())
}

fn check_device(name: &str, device: &api::Map) -> Result<(), String> {
    if name.is_empty() || name.len() > 64 || name.contains('/') || name.starts_with('.') {
        return Err("Invalid device name".to_owned());
    }
    let kind = device.get("type").map(String::as_str).unwrap_or_default();
    if kind.is_empty() {
        return Err("Missing device type in config".to_owned());
    }
    let keys = keys_of(kind).ok_or_else(|| format!("Unsupported device type {kind:?}"))?;
    for (key, value) in device {
        if key == "type" || key.starts_with("user.") {
            continue;
        }
        let known = keys.iter().find(|(known, _)| {
            if known.ends_with('.') {
                key.starts_with(known)
            } else {
                key == known
            }
        });
        let Some((_, value_kind)) = known else {
            return Err(format!("Invalid device option {key:?}"));
        };
        value_kind
            .check(value)
            .map_err(|why| format!("Invalid value for device option {key:?}: {why}"))?;
    }
    match kind {
        "disk" => check_disk(device),
        "nic" if !device.contains_key("network") && !device.contains_key("nictype") => {
            Err("Either \"network\" or \"nictype\" is needed".to_owned())
        }
        _ => Ok(()),
    }
}

fn check_disk(device: &api::Map) -> Result<(), String> {
    let get = |key: &str| device.get(key).map(String::as_str).unwrap_or_default();
    if get("path") == "/" {
        if !get("source").is_empty() {
            return Err("Root disk entry may not have a \"source\" property set".to_owned());
        }
        if get("pool").is_empty() {
            return Err("Root disk entry must have a \"pool\" property set".to_owned());
        }
        return Ok(());
    }
    if get("source").is_empty() {
        return Err("Disk entry is missing the required \"source\" property".to_owned());
    }
    if !get("size").is_empty() && !get("pool").is_empty() {
        return Err("Only the root disk may have a size quota".to_owned());
    }
    Ok(())
}
