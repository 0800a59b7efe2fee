//! Giving an instance another content: that of one of its snapshots, or that of an image.

use std::sync::Arc;

use api::Image;

use super::lock::InstanceLock;
use super::manager::blocking;
use super::record::{self, InstanceRecord, Phase};
use super::{create, devices, expand, start, stop};
use crate::operations::OperationContext;
use crate::{ApiError, Daemon};

/// Puts an instance back to a snapshot: content, configuration, devices and profiles. One that runs is stopped for it and
/// started again. The caller holds the instance's lock and tells the event.
pub(super) async fn restore(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    snapshot: &str,
) -> Result<InstanceRecord, ApiError> {
    let (project, name) = lock.key();
    record::load_snapshot(&*daemon.store, project, name, snapshot)?;
    let was_running = daemon.instances.running(project, name).is_some();
    if was_running {
        stop::stop(daemon, lock, true, 0).await?;
    }
    let (record, ()) = record::update(&*daemon.store, project, name, |record| {
        record.phase = Phase::Restoring {
            snapshot: snapshot.to_owned(),
        };
        Ok(())
    })?;
    let restored = finish(daemon, &record).await?;
    if was_running {
        start::start(daemon, lock).await?;
    }
    Ok(restored)
}

/// Replaces the content of an instance that does not run by an image's, or by nothing. The caller holds its lock.
pub(super) async fn rebuild(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    image: Option<Image>,
    context: &OperationContext,
) -> Result<InstanceRecord, ApiError> {
    let (project, name) = lock.key();
    if daemon.instances.running(project, name).is_some() {
        return Err(ApiError::bad_request("Instance must be stopped to be rebuilt"));
    }
    if !record::snapshots(&*daemon.store, project, name)?.is_empty() {
        return Err(ApiError::bad_request("Cannot rebuild instance with snapshots"));
    }
    let (record, ()) = record::update(&*daemon.store, project, name, |record| {
        record.config.retain(|key, _| !key.starts_with("image."));
        let fingerprint = image
            .as_ref()
            .map(|image| image.fingerprint.clone())
            .unwrap_or_default();
        for (key, value) in image.iter().flat_map(|image| &image.properties) {
            record.config.insert(format!("image.{key}"), value.clone());
        }
        record.set_volatile(
            "base_image",
            Some(fingerprint.clone()).filter(|text| !text.is_empty()),
        );
        record.phase = Phase::Rebuilding { fingerprint };
        Ok(())
    })?;
    refill(daemon, &record, Some(context)).await?;
    ready(daemon, &record)
}

/// The steps after the record says what is being done. May be repeated.
pub(super) async fn finish(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
) -> Result<InstanceRecord, ApiError> {
    match &record.phase {
        Phase::Restoring { snapshot } => {
            let (then, _) = record::load_snapshot(&*daemon.store, &record.project, &record.name, snapshot)?;
            let pool = daemon.pools.get(&record.pool)?;
            let (volume, name) = (record.volume(), snapshot.clone());
            blocking(move || pool.snapshot_restore(&volume, &name).map_err(ApiError::from)).await?;
            let (record, ()) = record::update(&*daemon.store, &record.project, &record.name, |record| {
                record.config = then.config.clone();
                // Links of the time of the snapshot are long gone, and it does not run now.
                super::ports::forget(record);
                record.set_volatile("last_state.power", Some("STOPPED".to_owned()));
                record.devices = then.devices.clone();
                record.profiles = then.profiles.clone();
                record.ephemeral = then.ephemeral;
                record.phase = Phase::Ready;
                Ok(())
            })?;
            Ok(record)
        }
        Phase::Rebuilding { .. } => {
            refill(daemon, record, None).await?;
            ready(daemon, record)
        }
        _ => Ok(record.clone()),
    }
}

fn ready(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<InstanceRecord, ApiError> {
    let (record, ()) = record::update(&*daemon.store, &record.project, &record.name, |record| {
        record.phase = Phase::Ready;
        Ok(())
    })?;
    Ok(record)
}

async fn refill(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    context: Option<&OperationContext>,
) -> Result<(), ApiError> {
    let Phase::Rebuilding { fingerprint } = &record.phase else {
        return Ok(());
    };
    let pool = daemon.pools.get(&record.pool)?;
    let config = expand::expand(&*daemon.store, record)?;
    let size = devices::read(record.kind, &config.devices)?.root.size;
    let (old, volume) = (Arc::clone(&pool), record.volume());
    blocking(move || old.delete_volume(&volume).map_err(ApiError::from)).await?;
    if fingerprint.is_empty() {
        return create::fill_empty(&pool, record, size).await;
    }
    create::fill_from_image(daemon, &pool, record, fingerprint, size, context).await
}
