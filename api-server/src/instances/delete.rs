//! Removing an instance with all that belongs to it. Every step can be repeated; the record goes last, so that an
//! interrupted removal is seen and finished by the next daemon.

use std::sync::Arc;

use super::crash::{self, Step};
use super::lock::InstanceLock;
use super::manager::blocking;
use super::record::{self, InstanceRecord, Phase};
use super::{devices, expand, ports, stop};
use crate::store::{Revision, keys};
use crate::{ApiError, Daemon};

/// Removes an instance that does not run. The caller holds its lock and tells the event.
pub async fn delete(daemon: &Arc<Daemon>, lock: &InstanceLock) -> Result<InstanceRecord, ApiError> {
    let (project, name) = lock.key();
    crash::point(Step::DeleteBegun);
    let (record, ()) = record::update(&*daemon.store, project, name, |record| {
        record.phase = Phase::Deleting;
        Ok(())
    })?;
    crash::point(Step::DeleteRecorded);
    finish(daemon, &record).await?;
    Ok(record)
}

/// The steps after the record says that the instance is being removed.
pub(super) async fn finish(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<(), ApiError> {
    let store = &*daemon.store;
    // Devices may come from profiles that have changed since; what cannot be read any more has nothing to give back.
    let config = expand::expand(store, record)?;
    if let Ok(set) = devices::read(record.kind, &config.devices) {
        ports::release(daemon, record, &set.nics).await?;
    }
    crash::point(Step::DeleteReleased);
    let pool = daemon.pools.get(&record.pool);
    for (name, _) in snapshots_of(daemon, record)? {
        if let Ok(pool) = &pool {
            let (pool, volume, snapshot) = (Arc::clone(pool), record.volume(), name.clone());
            blocking(move || match pool.snapshot_delete(&volume, &snapshot) {
                Ok(()) | Err(storage::Error::SnapshotNotFound { .. } | storage::Error::VolumeNotFound(_)) => {
                    Ok(())
                }
                Err(error) => Err(error.into()),
            })
            .await?;
        }
        store.delete(
            &keys::snapshot(&record.project, &record.name, &name),
            Revision::Any,
        )?;
    }
    crash::point(Step::DeleteSnapshotsGone);
    // A pool that is not there has no volumes to remove; its absence must not make the instance immortal.
    if let Ok(pool) = pool {
        let volume = record.volume();
        blocking(move || pool.delete_volume(&volume).map_err(ApiError::from)).await?;
    }
    crash::point(Step::DeleteVolumeGone);
    let (run_dir, log_dir) = (daemon.instances.run_dir(record), daemon.instances.log_dir(record));
    blocking(move || {
        stop::remove_tree(&run_dir)?;
        stop::remove_tree(&log_dir)
    })
    .await?;
    crash::point(Step::DeleteLogsGone);
    store.delete(&record.key(), Revision::Any)?;
    crash::point(Step::DeleteDone);
    Ok(())
}

fn snapshots_of(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<Vec<(String, u64)>, ApiError> {
    let found = daemon
        .store
        .list(&keys::snapshots(&record.project, &record.name))?;
    Ok(found
        .iter()
        .map(|document| (document.name().to_owned(), document.revision()))
        .collect())
}
