//! Changing an instance's configuration, devices and profiles, while it runs as far as that goes.

use std::sync::Arc;

use api::{InstancePut, Map};

use super::lock::InstanceLock;
use super::record::{self, InstanceRecord, Phase};
use super::{expand, validate};
use crate::store::{self, Document, Revision};
use crate::{ApiError, Daemon};

/// Volatile keys that clients may send back as they are, and cannot change: they say what is, not what should be.
fn keep_volatile(old: &Map, new: &mut Map) {
    new.retain(|key, _| !is_kept(key));
    for (key, value) in old.iter().filter(|(key, _)| is_kept(key)) {
        new.insert(key.clone(), value.clone());
    }
}

fn is_kept(key: &str) -> bool {
    key.starts_with("volatile.") && !key.ends_with(".hwaddr")
}

/// What an instance comes to with a change: the same but for what the request says.
pub(super) fn merged(record: &InstanceRecord, put: InstancePut, is_patch: bool) -> InstanceRecord {
    let mut changed = record.clone();
    let mut config = if is_patch {
        record.config.clone()
    } else {
        Map::new()
    };
    config.extend(put.config);
    if is_patch {
        // A PATCH with an empty value unsets the key.
        config.retain(|_, value| !value.is_empty());
        changed.devices.extend(put.devices);
        changed.ephemeral |= put.ephemeral;
        if !put.description.is_empty() {
            changed.description = put.description;
        }
    } else {
        changed.devices = put.devices;
        changed.ephemeral = put.ephemeral;
        changed.description = put.description;
        if !put.architecture.is_empty() {
            changed.architecture = put.architecture;
        }
    }
    keep_volatile(&record.config, &mut config);
    changed.config = config;
    if let Some(profiles) = put.profiles {
        changed.profiles = profiles;
    }
    changed
}

/// Writes a change that has been merged into what `document` says, and applies it to the running instance. The caller holds the
/// instance's lock and tells the event.
pub(super) async fn apply(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    mut changed: InstanceRecord,
    document: &Document,
) -> Result<InstanceRecord, ApiError> {
    let before: InstanceRecord = document.to()?;
    if before.phase != Phase::Ready {
        return Err(ApiError::bad_request("The instance is not complete"));
    }
    let checked = validate::instance(
        daemon,
        &changed.project,
        changed.kind,
        &changed.config,
        &changed.devices,
        &changed.profiles,
    )?;
    if changed.architecture != before.architecture {
        return Err(ApiError::bad_request(
            "The architecture of an instance cannot be changed",
        ));
    }
    if checked.devices.root.pool != before.pool {
        return Err(ApiError::bad_request(
            "The storage pool of the root disk cannot be changed: move the instance instead",
        ));
    }
    let (project, name) = lock.key();
    let running = daemon.instances.running(project, name);
    let old = expand::expand(&*daemon.store, &before)?;
    if running.is_some() && old.devices != checked.expanded.devices {
        refuse_live_devices(&old.devices, &checked.expanded.devices)?;
    }
    resize_root(daemon, &changed, &old, &checked, running.is_some()).await?;
    for nic in &checked.devices.nics {
        let key = format!("{}.hwaddr", nic.device);
        match nic.hwaddr {
            Some(_) => changed.set_volatile(&key, None),
            None => {
                let hwaddr = super::ports::hwaddr(&changed, nic).to_string();
                changed.set_volatile(&key, Some(hwaddr));
            }
        }
    }
    store::put_as(
        &*daemon.store,
        &changed.key(),
        &changed,
        Revision::Exact(document.revision()),
    )?;
    if let Some(running) = running {
        let (run_dir, config) = (running.run_dir.clone(), checked.expanded);
        let is_limit = |key: &String| key.starts_with("limits.");
        let limits = |map: &Map| {
            map.iter()
                .filter(|(key, _)| is_limit(key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect::<Map>()
        };
        if limits(&old.config) != limits(&config.config) {
            let applied = daemon
                .instances
                .with_driver(running.kind, move |driver| driver.set_limits(&run_dir, &config))
                .await?;
            if !applied {
                tracing::info!(instance = name, "changed limits take effect at the next start");
            }
        }
    }
    Ok(changed)
}

/// Devices of a running instance stay as they are; sizes and keys that only matter to the next start may change.
fn refuse_live_devices(old: &api::Devices, new: &api::Devices) -> Result<(), ApiError> {
    let matters = |devices: &api::Devices| -> Vec<(String, Map)> {
        devices
            .iter()
            .filter(|(_, keys)| keys.get("type").is_some_and(|kind| kind != "none"))
            .map(|(name, keys)| {
                let mut keys = keys.clone();
                keys.retain(|key, _| key != "size" && !key.starts_with("user.") && key != "boot.priority");
                (name.clone(), keys)
            })
            .collect()
    };
    if matters(old) == matters(new) {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "Devices of a running instance cannot be changed by this server yet: stop the instance first",
    ))
}

async fn resize_root(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    old: &expand::Expanded,
    checked: &validate::Checked,
    is_running: bool,
) -> Result<(), ApiError> {
    let before = super::devices::read(record.kind, &old.devices)
        .ok()
        .and_then(|set| set.root.size);
    let Some(size) = checked.devices.root.size.filter(|size| Some(*size) != before) else {
        return Ok(());
    };
    if is_running && record.is_vm() {
        return Err(ApiError::bad_request(
            "The root disk of a running virtual machine cannot be resized: stop it first",
        ));
    }
    let (pool, volume) = (daemon.pools.get(&record.pool)?, record.volume());
    super::manager::blocking(move || pool.resize(&volume, size).map_err(ApiError::from)).await
}

/// Loads what a change starts from.
pub(super) fn current(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
) -> Result<(InstanceRecord, Document), ApiError> {
    let (project, name) = lock.key();
    record::load(&*daemon.store, project, name)
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
