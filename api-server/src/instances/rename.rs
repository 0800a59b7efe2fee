//! Giving an instance another name, and moving it to another pool.

use std::sync::Arc;

use super::lock::InstanceLock;
use super::manager::blocking;
use super::record::{self, InstanceRecord, Phase};
use super::{devices, expand, ports, stop, validate};
use crate::store::{Change, Revision, keys};
use crate::{ApiError, Daemon};

/// Renames an instance that does not run. The caller holds its lock and tells the event.
pub(super) async fn rename(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    to: &str,
) -> Result<InstanceRecord, ApiError> {
    let (project, name) = lock.key();
    validate::instance_name(to)?;
    if daemon.instances.running(project, name).is_some() {
        return Err(ApiError::bad_request("Renaming of running instance not allowed"));
    }
    // The new name is taken for as long as this lasts, so that nobody makes an instance of it meanwhile.
    let _target = daemon
        .instances
        .locks
        .take(&(project.clone(), to.to_owned()), "rename")?;
    if daemon.store.get(&keys::instance(project, to))?.is_some() {
        return Err(ApiError::conflict(format!("Name {to:?} already in use")));
    }
    let (record, ()) = record::update(&*daemon.store, project, name, |record| {
        record.phase = Phase::Renaming { to: to.to_owned() };
        Ok(())
    })?;
    finish(daemon, &record, to).await
}

/// The steps after the record says what is being done. May be repeated.
pub(super) async fn finish(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    to: &str,
) -> Result<InstanceRecord, ApiError> {
    let mut renamed = record.clone();
    to.clone_into(&mut renamed.name);
    renamed.phase = Phase::Ready;
    renamed.set_volatile("apply_template", Some("rename".to_owned()));
    let config = expand::expand(&*daemon.store, record)?;
    if let Ok(set) = devices::read(record.kind, &config.devices) {
        // The next start reserves under the new name.
        ports::release(daemon, record, &set.nics).await?;
    }
    let pool = daemon.pools.get(&record.pool)?;
    let (from, new_name) = (record.volume(), renamed.disk_name());
    let target = renamed.volume();
    blocking(move || {
        // Gone already: an earlier daemon got this far.
        if !pool.exists(&from) && pool.exists(&target) {
            return Ok(());
        }
        pool.rename(&from, &new_name).map_err(ApiError::from)
    })
    .await?;
    let (old_logs, new_logs) = (
        daemon.instances.log_dir(record),
        daemon.instances.log_dir(&renamed),
    );
    if old_logs.exists() {
        stop::remove_tree(&new_logs)?;
        std::fs::rename(&old_logs, &new_logs)?;
    }
    let mut changes = vec![
        Change::delete(record.key(), Revision::Any),
        Change::put(renamed.key(), &renamed, Revision::Absent)?,
    ];
    for document in daemon
        .store
        .list(&keys::snapshots(&record.project, &record.name))?
    {
        let value = document.value()?;
        let key = keys::snapshot(&renamed.project, &renamed.name, document.name());
        changes.push(Change::delete(document.key(), Revision::Any));
        changes.push(Change::Put {
            key,
            value,
            expect: Revision::Any,
        });
    }
    daemon.store.transact(changes)?;
    Ok(renamed)
}
