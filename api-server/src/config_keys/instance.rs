//! Keys of instances and profiles.

use api::{InstanceType, Map};

use super::values::Kind;
use super::{invalid, unknown};
use crate::ApiError;

/// For which instances a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Both,
    Containers,
    VirtualMachines,
}

/// Keys with their place and kind. A name that ends with `.` stands for everything below it.
const KEYS: &[(&str, For, Kind)] = &[
    ("agent.nic_config", For::VirtualMachines, Kind::Bool),
    ("boot.autostart", For::Both, Kind::Bool),
    ("boot.autostart.delay", For::Both, Kind::Int64),
    ("boot.autostart.priority", For::Both, Kind::Int64),
    (
        "boot.host_shutdown_action",
        For::Both,
        Kind::OneOf(&["stop", "force-stop", "stateful-stop"]),
    ),
    ("boot.host_shutdown_timeout", For::Both, Kind::Int64),
    ("boot.stop.priority", For::Both, Kind::Int64),
    ("cloud-init.network-config", For::Both, Kind::Any),
    ("cloud-init.user-data", For::Both, Kind::Any),
    ("cloud-init.vendor-data", For::Both, Kind::Any),
    ("cluster.evacuate", For::Both, Kind::Any),
    ("environment.", For::Both, Kind::Any),
    ("image.", For::Both, Kind::Any),
    ("limits.cpu", For::Both, Kind::Cpus),
    ("limits.cpu.allowance", For::Containers, Kind::CpuAllowance),
    ("limits.cpu.nodes", For::Both, Kind::Any),
    ("limits.cpu.priority", For::Containers, Kind::Priority),
    ("limits.disk.priority", For::Both, Kind::Priority),
    ("limits.hugepages.", For::Containers, Kind::Size),
    ("limits.kernel.", For::Containers, Kind::Any),
    ("limits.memory", For::Both, Kind::Memory),
    (
        "limits.memory.enforce",
        For::Containers,
        Kind::OneOf(&["soft", "hard"]),
    ),
    ("limits.memory.hotplug", For::VirtualMachines, Kind::Any),
    ("limits.memory.hugepages", For::VirtualMachines, Kind::Bool),
    ("limits.memory.swap", For::Containers, Kind::Any),
    ("limits.memory.swap.priority", For::Containers, Kind::Priority),
    ("limits.processes", For::Containers, Kind::Int64),
    ("linux.kernel_modules", For::Containers, Kind::Any),
    ("linux.sysctl.", For::Containers, Kind::Any),
    ("migration.incremental.memory", For::Containers, Kind::Bool),
    ("migration.incremental.memory.goal", For::Containers, Kind::Uint32),
    (
        "migration.incremental.memory.iterations",
        For::Containers,
        Kind::Uint32,
    ),
    ("migration.stateful", For::Both, Kind::Bool),
    ("oci.", For::Containers, Kind::Any),
    ("raw.apparmor", For::Both, Kind::Any),
    ("raw.idmap", For::Containers, Kind::Any),
    ("raw.lxc", For::Containers, Kind::Any),
    ("raw.qemu", For::VirtualMachines, Kind::Any),
    ("raw.qemu.conf", For::VirtualMachines, Kind::Any),
    ("raw.qemu.qmp.", For::VirtualMachines, Kind::Any),
    ("raw.qemu.scriptlet", For::VirtualMachines, Kind::Any),
    ("raw.seccomp", For::Containers, Kind::Any),
    ("security.agent.metrics", For::VirtualMachines, Kind::Bool),
    ("security.csm", For::VirtualMachines, Kind::Bool),
    ("security.guestapi", For::Both, Kind::Bool),
    ("security.guestapi.images", For::Containers, Kind::Bool),
    ("security.idmap.base", For::Containers, Kind::Uint32),
    ("security.idmap.isolated", For::Containers, Kind::Bool),
    ("security.idmap.size", For::Containers, Kind::Uint32),
    ("security.nesting", For::Containers, Kind::Bool),
    ("security.privileged", For::Containers, Kind::Bool),
    ("security.protection.delete", For::Both, Kind::Bool),
    ("security.protection.shift", For::Containers, Kind::Bool),
    ("security.secureboot", For::VirtualMachines, Kind::Bool),
    ("security.sev", For::VirtualMachines, Kind::Bool),
    ("security.sev.policy.es", For::VirtualMachines, Kind::Bool),
    ("security.sev.session.data", For::VirtualMachines, Kind::Any),
    ("security.sev.session.dh", For::VirtualMachines, Kind::Any),
    ("security.syscalls.allow", For::Containers, Kind::Any),
    ("security.syscalls.deny", For::Containers, Kind::Any),
    ("security.syscalls.deny_compat", For::Containers, Kind::Bool),
    ("security.syscalls.deny_default", For::Containers, Kind::Bool),
    ("security.syscalls.intercept.", For::Containers, Kind::Any),
    ("snapshots.expiry", For::Both, Kind::Any),
    ("snapshots.pattern", For::Both, Kind::Any),
    ("snapshots.schedule", For::Both, Kind::Any),
    ("snapshots.schedule.stopped", For::Both, Kind::Bool),
    ("systemd.credential.", For::Both, Kind::Any),
    ("systemd.credential-binary.", For::Both, Kind::Any),
    ("user.", For::Both, Kind::Any),
    ("virga.boot.cmdline", For::VirtualMachines, Kind::Any),
    (
        "virga.boot.init",
        For::VirtualMachines,
        Kind::OneOf(&["agent", "image"]),
    ),
    ("virga.boot.kernel", For::VirtualMachines, Kind::AbsolutePath),
    (
        "virga.boot.transport",
        For::VirtualMachines,
        Kind::OneOf(&["pci", "mmio"]),
    ),
];

/// Keys that describe one instance and so are not for profiles. Some of them only the daemon writes.
const INSTANCE_ONLY: &[(&str, For, Kind)] = &[("volatile.", For::Both, Kind::Any)];

fn find(table: &'static [(&str, For, Kind)], key: &str) -> Option<(For, Kind)> {
    table
        .iter()
        .find(|(name, ..)| {
            if name.ends_with('.') {
                key.len() > name.len() && key.starts_with(name)
            } else {
                key == *name
            }
        })
        .map(|&(_, place, kind)| (place, kind))
}

/// Checks one key and value. `instance` is `None` for a profile, whose keys may be for either kind of instance.
pub fn check_instance_key(key: &str, value: &str, instance: Option<InstanceType>) -> Result<(), ApiError> {
    let found = find(KEYS, key).or_else(|| instance.and_then(|_| find(INSTANCE_ONLY, key)));
    let Some((place, kind)) = found else {
        if instance.is_none() && find(INSTANCE_ONLY, key).is_some() {
            return Err(ApiError::bad_request(
                "Volatile keys can only be set on instances",
            ));
        }
        return Err(unknown(key));
    };
    match (place, instance) {
        (For::Containers, Some(InstanceType::VirtualMachine)) => {
            return Err(ApiError::bad_request(format!(
                "Config key {key:?} is for containers only"
            )));
        }
        (For::VirtualMachines, Some(InstanceType::Container)) => {
            return Err(ApiError::bad_request(format!(
                "Config key {key:?} is for virtual machines only"
            )));
        }
        _ => {}
    }
    kind.check(value).map_err(|why| invalid(key, why))
}

/// Checks a whole configuration. `instance` is `None` for a profile.
pub fn check_instance_config(config: &Map, instance: Option<InstanceType>) -> Result<(), ApiError> {
    config
        .iter()
        .try_for_each(|(key, value)| check_instance_key(key, value, instance))?;
    if config
        .get("security.idmap.isolated")
        .is_some_and(|value| super::is_true(value))
        && config
            .get("security.privileged")
            .is_some_and(|value| super::is_true(value))
    {
        return Err(ApiError::bad_request(
            "security.idmap.isolated can't be used with security.privileged",
        ));
    }
    Ok(())
}
