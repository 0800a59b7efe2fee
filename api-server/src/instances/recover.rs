//! After the daemon's start: what an earlier one left half done is completed or undone, what runs is adopted.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::Timestamp;

use super::driver::Inside;
use super::lock::InstanceKey;
use super::manager::{Running, blocking};
use super::record::{self, InstanceRecord, Phase, SnapshotRecord};
use super::supervisor::{self, Supervisor};
use super::{delete, events, ids, ports, rename, restore, snapshots, start, stop, watch};
use crate::request::Requestor;
use crate::store::{self, Revision, keys};
use crate::{ApiError, Daemon};

/// How long a supervisor that must go may take to die.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// How often expired snapshots are looked for, as in Incus.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// Where the store keeps the boot id of the host as the last daemon saw it.
const BOOT_ID: &str = "state/boot-id";

/// What is to be done about an instance once everything else is in order.
enum Next {
    Nothing,
    /// It asked for a restart while no daemon was there.
    StartAgain,
    /// It is ephemeral and has ended.
    Delete,
    /// The host has been restarted since.
    Autostart,
}

/// Brings store, disks, links and processes to agreement.
pub(super) async fn recover(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    let is_new_boot = note_boot(daemon)?;
    // Looking at KVM takes milliseconds: here, and not in the first request that wants to know.
    let prober = Arc::clone(daemon);
    tokio::spawn(blocking(move || Ok(prober.instances.vm_support())));
    let mut next = Vec::new();
    for (record, _) in record::all(&*daemon.store, None)? {
        let key = (record.project.clone(), record.name.clone());
        // One instance that cannot be brought in order must not keep the others from running.
        match recover_one(daemon, record, is_new_boot).await {
            Ok(Next::Nothing) => {}
            Ok(what) => next.push((key, what)),
            Err(error) => tracing::error!(instance = key.1, %error, "instance could not be brought in order"),
        }
    }
    recover_snapshots(daemon).await?;
    sweep_run_dirs(daemon).await?;
    sweep_links(daemon).await?;
    sort_by_priority(daemon, &mut next);
    let later = Arc::downgrade(daemon);
    tokio::spawn(expire_snapshots(Arc::downgrade(daemon)));
    tokio::spawn(async move {
        for (key, what) in next {
            let Some(daemon) = later.upgrade() else { return };
            if let Err(error) = follow(&daemon, &key, what).await {
                tracing::warn!(instance = key.1, %error, "what should follow the daemon's start failed");
            }
        }
    });
    Ok(())
}

/// Removes snapshots whose time has come, for as long as there is a daemon.
async fn expire_snapshots(daemon: Weak<Daemon>) {
    let mut ticks = tokio::time::interval(EXPIRY_INTERVAL);
    loop {
        ticks.tick().await;
        let Some(daemon) = daemon.upgrade() else { return };
        if let Err(error) = snapshots::remove_expired(&daemon).await {
            tracing::warn!(%error, "expired snapshots could not be looked for");
        }
    }
}

/// Whether the host has been restarted since the last daemon ran.
fn note_boot(daemon: &Arc<Daemon>) -> Result<bool, ApiError> {
    let now = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned();
    let earlier = store::get_as::<String>(&*daemon.store, BOOT_ID)?.map(|(id, _)| id);
    if earlier.as_deref() != Some(now.as_str()) {
        store::put_as(&*daemon.store, BOOT_ID, &now, Revision::Any)?;
    }
    Ok(earlier.is_some_and(|earlier| earlier != now))
}

async fn recover_one(
    daemon: &Arc<Daemon>,
    record: InstanceRecord,
    is_new_boot: bool,
) -> Result<Next, ApiError> {
    let run_dir = daemon.instances.run_dir(&record);
    match &record.phase {
        Phase::Ready => {}
        Phase::Creating | Phase::Deleting => {
            tracing::info!(instance = record.name, phase = ?record.phase, "removing a half-made or half-removed instance");
            end_supervisor(supervisor::find(&run_dir)).await?;
            stop::put_away(daemon, &record, None).await?;
            delete::finish(daemon, &record).await?;
            return Ok(Next::Nothing);
        }
        Phase::Renaming { to } => {
            rename::finish(daemon, &record, to).await?;
            return Ok(Next::Nothing);
        }
        Phase::Restoring { .. } | Phase::Rebuilding { .. } => {
            end_supervisor(supervisor::find(&run_dir)).await?;
            stop::put_away(daemon, &record, Some("STOPPED")).await?;
            restore::finish(daemon, &record).await?;
            return Ok(Next::Nothing);
        }
    }
    if let Some(found) = supervisor::find(&run_dir) {
        return adopt(daemon, &record, found).await;
    }
    let was_on = record.volatile("last_state.power") == Some("RUNNING");
    let has_leftovers = run_dir.exists() || !ports::noted(&record).is_empty();
    let exit = supervisor::read_exit(&run_dir);
    let is_reset = exit.as_ref().is_some_and(supervisor::Exit::is_reset);
    if has_leftovers || was_on {
        let power = if is_new_boot { None } else { Some("STOPPED") };
        stop::put_away(daemon, &record, power).await?;
    }
    Ok(match (was_on, is_new_boot) {
        (true, _) if record.ephemeral && !is_reset => Next::Delete,
        (_, true) => Next::Autostart,
        (true, false) if is_reset => Next::StartAgain,
        _ => Next::Nothing,
    })
}

/// An instance whose supervisor lives: it goes on as if nothing had happened, unless it was never let go.
async fn adopt(daemon: &Arc<Daemon>, record: &InstanceRecord, found: Supervisor) -> Result<Next, ApiError> {
    let manager = &daemon.instances;
    let run_dir = manager.run_dir(record);
    let dir = run_dir.clone();
    let report = manager
        .with_driver(record.kind, move |driver| driver.report(&dir))
        .await;
    let report = match report {
        Ok(report) if report.inside != Inside::Held => report,
        // Held: the daemon that made it has not lived to let it go. Silent: it can never be talked to again.
        _ => {
            tracing::info!(instance = record.name, "undoing a start that was not finished");
            end_supervisor(Some(found)).await?;
            stop::put_away(daemon, record, Some("STOPPED")).await?;
            return Ok(Next::Nothing);
        }
    };
    let key = (record.project.clone(), record.name.clone());
    if let Some((base, size)) = id_range(record) {
        manager.ids.adopt(&key, base, size);
    }
    let started_at = supervisor::started_at(found.pid)
        .and_then(|seconds| jiff::Timestamp::from_millisecond((seconds * 1000.0) as i64).ok())
        .map_or_else(Timestamp::now, Timestamp::from);
    record::update(&*daemon.store, &record.project, &record.name, |record| {
        record.set_volatile("last_state.power", Some("RUNNING".to_owned()));
        Ok(())
    })?;
    tracing::info!(instance = record.name, pid = found.pid, "adopted");
    let running = Arc::new(Running::new(
        record.kind,
        run_dir,
        found,
        report.pid,
        started_at,
        report.inside,
    ));
    manager.insert(key.clone(), Arc::clone(&running));
    watch::spawn(daemon, key, running);
    Ok(Next::Nothing)
}

/// The ids that a running instance has, from what was written down before it was started.
fn id_range(record: &InstanceRecord) -> Option<(u32, u32)> {
    let base = record
        .volatile("idmap.base")?
        .parse()
        .ok()
        .filter(|base| *base > 0)?;
    let map: serde_json::Value =
        serde_json::from_str(record.volatile("idmap.current").unwrap_or("[]")).ok()?;
    let size = map
        .get(0)
        .and_then(|entry| entry.get("Maprange")?.as_u64())
        .and_then(|size| u32::try_from(size).ok());
    Some((base, size.unwrap_or(ids::BLOCK)))
}

async fn end_supervisor(found: Option<Supervisor>) -> Result<(), ApiError> {
    let Some(found) = found else { return Ok(()) };
    let pid = found.pid;
    match blocking(move || Ok(supervisor::kill(&found, KILL_PATIENCE))).await? {
        true => Ok(()),
        false => Err(ApiError::internal(format!("supervisor {pid} cannot be killed"))),
    }
}

/// Snapshots that were being made or removed are removed.
async fn recover_snapshots(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    for (snapshot, document) in store::list_as::<SnapshotRecord>(&*daemon.store, keys::SNAPSHOTS)? {
        let parts = keys::parts(document.key());
        let (Some(project), Some(instance)) = (parts.get(1), parts.get(2)) else {
            continue;
        };
        if let Ok((record, _)) = record::load(&*daemon.store, project, instance) {
            snapshots::recover(daemon, &record, &snapshot).await?;
        } else {
            daemon.store.delete(document.key(), Revision::Any)?;
        }
    }
    Ok(())
}

/// Run directories of no instance: the supervisor in them is ended, and they are removed.
async fn sweep_run_dirs(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    let known: HashSet<String> = record::all(&*daemon.store, None)?
        .iter()
        .map(|(record, _)| record.disk_name())
        .collect();
    for entry in std::fs::read_dir(daemon.paths.all_runs())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if known.contains(&name) {
            continue;
        }
        tracing::info!(name, "removing the run directory of no instance");
        end_supervisor(supervisor::find(&entry.path())).await?;
        let dir = entry.path();
        // Of which kind it was is not known; what is not there is not cleaned up.
        daemon
            .instances
            .with_driver(api::InstanceType::Container, move |driver| driver.clean_up(&dir))
            .await?;
        stop::remove_tree(&entry.path())?;
    }
    Ok(())
}

/// Links of ours that belong to nothing that runs.
async fn sweep_links(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    let mut expected = HashSet::new();
    for ((project, name), _) in daemon.instances.all_running() {
        let (record, _) = record::load(&*daemon.store, &project, &name)?;
        expected.extend(ports::noted(&record).into_iter().map(|(_, host_name)| host_name));
    }
    let found = daemon.networks.ports().await.map_err(ApiError::from)?;
    for name in found.into_iter().filter(|name| !expected.contains(name)) {
        tracing::info!(name, "removing the link of no instance");
        daemon.networks.remove_link(&name).await.map_err(ApiError::from)?;
    }
    Ok(())
}

/// Higher `boot.autostart.priority` first, as in Incus.
fn sort_by_priority(daemon: &Arc<Daemon>, next: &mut [(InstanceKey, Next)]) {
    let priority = |key: &InstanceKey| -> i64 {
        record::load(&*daemon.store, &key.0, &key.1)
            .and_then(|(record, _)| super::expand::expand(&*daemon.store, &record))
            .ok()
            .and_then(|config| config.get("boot.autostart.priority").parse().ok())
            .unwrap_or(0)
    };
    next.sort_by_cached_key(|(key, _)| std::cmp::Reverse(priority(key)));
}

async fn follow(daemon: &Arc<Daemon>, key: &InstanceKey, what: Next) -> Result<(), ApiError> {
    let (project, name) = key;
    let who = Requestor::daemon();
    match what {
        Next::Nothing => Ok(()),
        Next::Delete => {
            let lock = daemon.instances.locks.take(key, "delete")?;
            let record = delete::delete(daemon, &lock).await?;
            events::tell(daemon, &record, "instance-deleted", None, &who);
            Ok(())
        }
        Next::StartAgain => {
            let lock = daemon.instances.locks.take(key, "restart")?;
            start::start(daemon, &lock).await?;
            let (record, _) = record::load(&*daemon.store, project, name)?;
            events::tell(daemon, &record, "instance-restarted", None, &who);
            Ok(())
        }
        Next::Autostart => {
            let (record, _) = record::load(&*daemon.store, project, name)?;
            let config = super::expand::expand(&*daemon.store, &record)?;
            let was_on = record.volatile("last_state.power") == Some("RUNNING");
            let wanted = match config.get("boot.autostart") {
                "" => was_on,
                value => crate::config_keys::is_true(value),
            };
            if !wanted {
                return Ok(());
            }
            let lock = daemon.instances.locks.take(key, "start")?;
            start::start(daemon, &lock).await?;
            events::tell(daemon, &record, "instance-started", None, &who);
            let delay = config.get("boot.autostart.delay").parse().unwrap_or(0);
            tokio::time::sleep(Duration::from_secs(delay)).await;
            Ok(())
        }
    }
}
