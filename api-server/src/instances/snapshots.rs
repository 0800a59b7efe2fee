//! Snapshots of instances: making, renaming, removing, and their expiry.

use std::sync::Arc;

use api::{InstanceSnapshotsPost, Timestamp};

use super::lock::InstanceLock;
use super::manager::blocking;
use super::record::{self, InstanceRecord, Phase, SnapshotRecord};
use super::{expand, validate};
use crate::store::{self, Change, Revision, StoreError, keys};
use crate::{ApiError, Daemon, config_keys};

/// A snapshot about to be made, checked.
#[derive(Debug, Clone)]
pub(super) struct NewSnapshot {
    /// Its name.
    pub name: String,
    /// When it is removed by itself.
    pub expires_at: Timestamp,
}

/// Checks a request for a snapshot; finds the first free `snapN` for one without a name.
pub(super) fn check(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    post: &InstanceSnapshotsPost,
) -> Result<NewSnapshot, ApiError> {
    if post.stateful {
        return Err(ApiError::bad_request(
            "Stateful snapshots are not supported by this server",
        ));
    }
    let name = if post.name.is_empty() {
        next_name(daemon, record)?
    } else {
        post.name.clone()
    };
    validate::snapshot_name(&name)?;
    let expires_at = match post.expires_at {
        Some(moment) => moment,
        None => {
            let config = expand::expand(&*daemon.store, record)?;
            default_expiry(config.get("snapshots.expiry"))?
        }
    };
    Ok(NewSnapshot { name, expires_at })
}

fn default_expiry(text: &str) -> Result<Timestamp, ApiError> {
    if text.is_empty() {
        return Ok(Timestamp::never());
    }
    let life = config_keys::parse_duration(text).map_err(ApiError::bad_request)?;
    let seconds = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
    Ok(Timestamp::from_unix(
        Timestamp::now().as_unix().saturating_add(seconds),
    ))
}

fn next_name(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<String, ApiError> {
    let taken = daemon
        .store
        .list(&keys::snapshots(&record.project, &record.name))?;
    let next = taken
        .iter()
        .filter_map(|document| document.name().strip_prefix("snap")?.parse::<u64>().ok())
        .max()
        .map_or(0, |last| last + 1);
    Ok(format!("snap{next}"))
}

/// Makes a snapshot. The caller holds the instance's lock and tells the event.
pub(super) async fn create(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    new: &NewSnapshot,
) -> Result<(), ApiError> {
    let (project, name) = lock.key();
    let (record, _) = record::load(&*daemon.store, project, name)?;
    let config = expand::expand(&*daemon.store, &record)?;
    let mut snapshot = SnapshotRecord {
        name: new.name.clone(),
        architecture: record.architecture.clone(),
        config: record.config.clone(),
        devices: record.devices.clone(),
        profiles: record.profiles.clone(),
        ephemeral: record.ephemeral,
        expanded_config: config.config,
        expanded_devices: config.devices,
        description: String::new(),
        created_at: Timestamp::now(),
        last_used_at: record.last_used_at,
        expires_at: new.expires_at,
        phase: Phase::Creating,
    };
    let key = keys::snapshot(project, name, &new.name);
    match store::put_as(&*daemon.store, &key, &snapshot, Revision::Absent) {
        Ok(_) => {}
        Err(StoreError::Conflict { .. }) => {
            return Err(ApiError::conflict(format!(
                "Snapshot {name:?} already exists",
                name = format!("{name}/{}", new.name)
            )));
        }
        Err(error) => return Err(error.into()),
    }
    let pool = daemon.pools.get(&record.pool)?;
    let (volume, snapshot_name) = (record.volume(), new.name.clone());
    let made = blocking(move || {
        pool.snapshot_create(&volume, &snapshot_name)
            .map_err(ApiError::from)
    })
    .await;
    if let Err(error) = made {
        daemon.store.delete(&key, Revision::Any)?;
        return Err(error.context("Create instance snapshot"));
    }
    snapshot.phase = Phase::Ready;
    store::put_as(&*daemon.store, &key, &snapshot, Revision::Any)?;
    Ok(())
}

/// Removes a snapshot. The caller holds the instance's lock and tells the event.
pub(super) async fn delete(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    snapshot: &str,
) -> Result<(), ApiError> {
    let (project, name) = lock.key();
    let (record, _) = record::load(&*daemon.store, project, name)?;
    let (mut found, _) = record::load_snapshot(&*daemon.store, project, name, snapshot)?;
    found.phase = Phase::Deleting;
    store::put_as(
        &*daemon.store,
        &keys::snapshot(project, name, snapshot),
        &found,
        Revision::Any,
    )?;
    finish_delete(daemon, &record, snapshot).await
}

async fn finish_delete(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    snapshot: &str,
) -> Result<(), ApiError> {
    let pool = daemon.pools.get(&record.pool)?;
    let (volume, name) = (record.volume(), snapshot.to_owned());
    blocking(move || match pool.snapshot_delete(&volume, &name) {
        Ok(()) | Err(storage::Error::SnapshotNotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    })
    .await?;
    daemon.store.delete(
        &keys::snapshot(&record.project, &record.name, snapshot),
        Revision::Any,
    )?;
    Ok(())
}

/// Renames a snapshot. The caller holds the instance's lock and tells the event.
pub(super) async fn rename(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    from: &str,
    to: &str,
) -> Result<(), ApiError> {
    let (project, name) = lock.key();
    validate::snapshot_name(to)?;
    let (record, _) = record::load(&*daemon.store, project, name)?;
    let (mut found, _) = record::load_snapshot(&*daemon.store, project, name, from)?;
    let (old_key, new_key) = (
        keys::snapshot(project, name, from),
        keys::snapshot(project, name, to),
    );
    if daemon.store.get(&new_key)?.is_some() {
        return Err(ApiError::conflict(format!("Name {to:?} already in use")));
    }
    let pool = daemon.pools.get(&record.pool)?;
    // Said before it is done, so that a daemon that dies between disk and store is followed by one that knows.
    found.phase = Phase::Renaming { to: to.to_owned() };
    store::put_as(&*daemon.store, &old_key, &found, Revision::Any)?;
    let (volume, old, new) = (record.volume(), from.to_owned(), to.to_owned());
    let renamed = blocking(move || rename_on_disk(&pool, &volume, &old, &new)).await;
    found.phase = Phase::Ready;
    if let Err(error) = renamed {
        store::put_as(&*daemon.store, &old_key, &found, Revision::Any)?;
        return Err(error);
    }
    move_record(daemon, &old_key, &new_key, found, to)
}

fn rename_on_disk(
    pool: &storage::Pool,
    volume: &storage::VolumeId,
    from: &str,
    to: &str,
) -> Result<(), ApiError> {
    let names = pool.snapshots(volume).map_err(ApiError::from)?;
    let has = |name: &str| names.iter().any(|known| known == name);
    if has(to) && !has(from) {
        return Ok(());
    }
    pool.snapshot_rename(volume, from, to).map_err(ApiError::from)
}

fn move_record(
    daemon: &Arc<Daemon>,
    old_key: &str,
    new_key: &str,
    mut snapshot: SnapshotRecord,
    to: &str,
) -> Result<(), ApiError> {
    to.clone_into(&mut snapshot.name);
    daemon.store.transact(vec![
        Change::delete(old_key, Revision::Any),
        Change::put(new_key, &snapshot, Revision::Any)?,
    ])?;
    Ok(())
}

/// Completes or undoes what was being done to a snapshot.
pub(super) async fn recover(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    snapshot: &SnapshotRecord,
) -> Result<(), ApiError> {
    match &snapshot.phase {
        Phase::Creating | Phase::Deleting => finish_delete(daemon, record, &snapshot.name).await,
        Phase::Renaming { to } => {
            let pool = daemon.pools.get(&record.pool)?;
            let (volume, from, new) = (record.volume(), snapshot.name.clone(), to.clone());
            blocking(move || rename_on_disk(&pool, &volume, &from, &new)).await?;
            let mut done = snapshot.clone();
            done.phase = Phase::Ready;
            let old_key = keys::snapshot(&record.project, &record.name, &snapshot.name);
            let new_key = keys::snapshot(&record.project, &record.name, to);
            move_record(daemon, &old_key, &new_key, done, to)
        }
        _ => Ok(()),
    }
}

/// Changes when a snapshot is removed by itself.
pub(super) fn set_expiry(
    daemon: &Arc<Daemon>,
    project: &str,
    instance: &str,
    snapshot: &str,
    expires_at: Timestamp,
) -> Result<(), ApiError> {
    let (mut found, document) = record::load_snapshot(&*daemon.store, project, instance, snapshot)?;
    found.expires_at = expires_at;
    store::put_as(
        &*daemon.store,
        document.key(),
        &found,
        Revision::Exact(document.revision()),
    )?;
    Ok(())
}

/// Removes the snapshots whose time has come. Called once a minute.
pub(super) async fn remove_expired(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    let now = Timestamp::now();
    for (snapshot, document) in store::list_as::<SnapshotRecord>(&*daemon.store, keys::SNAPSHOTS)? {
        if snapshot.phase != Phase::Ready || snapshot.expires_at.as_unix() <= 0 || snapshot.expires_at > now {
            continue;
        }
        let parts = keys::parts(document.key());
        let (Some(project), Some(instance)) = (parts.get(1), parts.get(2)) else {
            continue;
        };
        // A busy instance's snapshot goes the next time.
        let key = ((*project).to_owned(), (*instance).to_owned());
        let Ok(lock) = daemon.instances.locks.take(&key, "snapshot-delete") else {
            continue;
        };
        match delete(daemon, &lock, &snapshot.name).await {
            Ok(()) => tracing::info!(instance, snapshot = snapshot.name, "expired snapshot removed"),
            Err(error) => {
                tracing::warn!(instance, snapshot = snapshot.name, %error, "expired snapshot stays")
            }
        }
    }
    Ok(())
}
