//! What a client may ask for: names, configuration and devices of instances, in Incus' words where it refuses.

use std::sync::Arc;

use api::{Devices, InstanceType, Map, Profile};

use super::devices::{self, DeviceSet};
use super::driver::VmSupport;
use super::expand::{self, Expanded};
use super::{limits, ports};
use crate::{ApiError, Daemon, config_keys};

/// Longest name of an instance or a snapshot: it becomes a host name's label (RFC 1123 §2.1).
const MAX_NAME: usize = 63;

/// Checks the name of an instance: it becomes a host name.
pub(super) fn instance_name(name: &str) -> Result<(), ApiError> {
    host_label(name).map_err(|why| ApiError::bad_request(format!("Invalid instance name: {why}")))
}

fn host_label(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err("Name must be 1-63 characters long");
    }
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("Name cannot be a number");
    }
    if name.starts_with('-') {
        return Err("Name must not start with \"-\" character");
    }
    if name.ends_with('-') {
        return Err("Name must not end with \"-\" character");
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Err("Name can only contain alphanumeric and hyphen characters");
    }
    Ok(())
}

/// Checks the name of a snapshot: it becomes a file name and a part of a URL.
pub(super) fn snapshot_name(name: &str) -> Result<(), ApiError> {
    let why = if name.is_empty() || name.len() > MAX_NAME {
        "Name must be 1-63 characters long"
    } else if name == "." || name == ".." || name.starts_with('.') {
        "Name must not start with \".\" character"
    } else if name.contains('/') {
        "Name may not contain slashes"
    } else if name
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || "\"'\\%?#&".contains(c))
    {
        "Name can only contain letters, digits and . _ - : @ +"
    } else {
        return Ok(());
    };
    Err(ApiError::bad_request(format!("Invalid snapshot name: {why}")))
}

/// Reads the kind of a new instance.
pub(super) fn kind(word: &str) -> Result<InstanceType, ApiError> {
    match word {
        "" | "container" => Ok(InstanceType::Container),
        "virtual-machine" => Ok(InstanceType::VirtualMachine),
        other => Err(ApiError::bad_request(format!("Invalid instance type {other:?}"))),
    }
}

/// Refuses keys that Virga knows and cannot honour. Better at once than silently not.
pub(super) fn check_supported(config: &Expanded) -> Result<(), ApiError> {
    for (key, value) in &config.config {
        if key.starts_with("raw.") && !value.is_empty() {
            return Err(ApiError::bad_request(format!(
                "Configuration key {key:?} is not supported: this server runs its own machines and containers, not QEMU and LXC"
            )));
        }
    }
    Ok(())
}

/// What an instance is going to be, checked.
#[derive(Debug)]
pub(super) struct Checked {
    /// With its profiles.
    pub expanded: Expanded,
    /// Its devices.
    pub devices: DeviceSet,
}

/// Checks a whole instance as it is going to be: profiles exist, keys and devices are understood, what they name exists.
pub(super) fn instance(
    daemon: &Arc<Daemon>,
    project: &str,
    kind: InstanceType,
    config: &Map,
    own_devices: &Devices,
    profiles: &[String],
) -> Result<Checked, ApiError> {
    config_keys::check_instance_config(config, Some(kind))
        .map_err(|error| error.context("Invalid config"))?;
    config_keys::check_devices(own_devices).map_err(|error| error.context("Invalid devices"))?;
    let mut seen = std::collections::HashSet::new();
    if let Some(twice) = profiles.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(ApiError::bad_request(format!(
            "Duplicate profile found in request: {twice:?}"
        )));
    }
    let loaded: Vec<Profile> = expand::load_profiles(&*daemon.store, project, profiles)?;
    let expanded = expand::merge(&loaded, config, own_devices);
    check_supported(&expanded)?;
    let devices = devices::read(kind, &expanded.devices)?;
    daemon.pools.get(&devices.root.pool).map_err(|error| {
        error.context(format!(
            "Invalid devices: Failed loading storage pool {:?}",
            devices.root.pool
        ))
    })?;
    for nic in &devices.nics {
        ports::bridge(daemon, project, nic)?;
    }
    match kind {
        InstanceType::Container => drop(limits::of_container(&expanded)?),
        InstanceType::VirtualMachine => drop(limits::of_vm(&expanded)?),
    }
    Ok(Checked { expanded, devices })
}

/// Refuses virtual machines where they cannot run.
pub(super) fn vm_can_run(daemon: &Arc<Daemon>, kind: InstanceType) -> Result<(), ApiError> {
    match (kind, daemon.instances.vm_support()) {
        (InstanceType::VirtualMachine, VmSupport::No(reason)) => Err(ApiError::bad_request(format!(
            "Instance type \"virtual-machine\" is not supported on this server: {reason}"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
