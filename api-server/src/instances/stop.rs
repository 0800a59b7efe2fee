//! Ending an instance, and putting away what it leaves.
//!
//! Whoever wants an instance to end only asks its supervisor; the watcher ([`super::watch`]) notices the end, whatever caused
//! it, and puts everything away with [`put_away`]. So there is one way out, and it can be gone twice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use guest_agent::protocol::ShutdownAction;

use super::crash::{self, Step};
use super::lock::InstanceLock;
use super::manager::{Running, blocking};
use super::record::{self, InstanceRecord};
use super::supervisor::{self, Exit};
use super::{agent, ports};
use crate::{ApiError, Daemon};

/// How long a clean end may take when the client does not say: Incus' ten minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a supervisor may take to end its instance by force before it is killed itself.
const FORCE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a virtual machine's agent may take to accept the wish to power off, before the power button is pressed.
const AGENT_PATIENCE: Duration = Duration::from_secs(3);

/// What is assumed about an instance whose supervisor died without a word.
pub(super) fn crashed() -> Exit {
    Exit {
        reason: "error".to_owned(),
        status: None,
        message: "its supervisor died without a report".to_owned(),
    }
}

/// Asks an instance to end and waits until it has been put away. The caller holds its lock and tells the event.
pub(super) async fn stop(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    force: bool,
    timeout: i64,
) -> Result<(), ApiError> {
    let (project, name) = lock.key();
    let Some(running) = daemon.instances.running(project, name) else {
        return Err(ApiError::bad_request("The instance is already stopped"));
    };
    crash::point(Step::StopBegun);
    running.set_expected(true);
    if force {
        return end_now(daemon, &running).await;
    }
    let patience = u64::try_from(timeout).ok().filter(|seconds| *seconds > 0);
    let patience = patience.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    if running.is_frozen() {
        thaw(daemon, &running).await?;
    }
    ask(daemon, &running).await?;
    if tokio::time::timeout(patience, running.over()).await.is_err() {
        running.set_expected(false);
        let status = daemon.instances.status(project, name).text();
        return Err(ApiError::bad_request(format!(
            "Failed shutting down instance, status is {status:?}: context deadline exceeded"
        )));
    }
    Ok(())
}

async fn ask(daemon: &Arc<Daemon>, running: &Arc<Running>) -> Result<(), ApiError> {
    if running.kind == api::InstanceType::VirtualMachine {
        let by_agent = async {
            let stream = agent::connect(daemon, running).await?;
            let asked = guest_agent::client::shutdown(stream, ShutdownAction::Poweroff).await;
            asked.map_err(|error| ApiError::from_error(&error))
        };
        if let Ok(Ok(())) = tokio::time::timeout(AGENT_PATIENCE, by_agent).await {
            return Ok(());
        }
    }
    let run_dir = running.run_dir.clone();
    daemon
        .instances
        .with_driver(running.kind, move |driver| driver.ask_to_stop(&run_dir))
        .await
}

async fn thaw(daemon: &Arc<Daemon>, running: &Arc<Running>) -> Result<(), ApiError> {
    let run_dir = running.run_dir.clone();
    daemon
        .instances
        .with_driver(running.kind, move |driver| driver.thaw(&run_dir))
        .await?;
    running.set_frozen(false);
    Ok(())
}

async fn end_now(daemon: &Arc<Daemon>, running: &Arc<Running>) -> Result<(), ApiError> {
    let run_dir = running.run_dir.clone();
    let asked = daemon
        .instances
        .with_driver(running.kind, move |driver| driver.kill(&run_dir))
        .await;
    if asked.is_ok() && tokio::time::timeout(FORCE_PATIENCE, running.over()).await.is_ok() {
        return Ok(());
    }
    // The supervisor does not answer or does not get it done.
    let target = Arc::clone(running);
    if !blocking(move || Ok(supervisor::kill(&target.supervisor, FORCE_PATIENCE))).await? {
        running.set_expected(false);
        return Err(ApiError::internal(format!(
            "Failed stopping instance: its supervisor {} cannot be killed",
            running.supervisor.pid
        )));
    }
    running.over().await;
    Ok(())
}

/// Freezes or thaws an instance. The caller holds its lock and tells the event.
pub(super) async fn set_frozen(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    frozen: bool,
) -> Result<(), ApiError> {
    let (project, name) = lock.key();
    let running = daemon
        .instances
        .running(project, name)
        .ok_or_else(|| ApiError::bad_request("The instance isn't running"))?;
    match (frozen, running.is_frozen()) {
        (true, true) => return Err(ApiError::bad_request("The instance is already frozen")),
        (false, false) => return Err(ApiError::bad_request("The instance is already running")),
        _ => {}
    }
    let run_dir = running.run_dir.clone();
    daemon
        .instances
        .with_driver(running.kind, move |driver| {
            if frozen {
                driver.freeze(&run_dir)
            } else {
                driver.thaw(&run_dir)
            }
        })
        .await?;
    running.set_frozen(frozen);
    Ok(())
}

/// Removes everything that an instance has while it runs, after its supervisor has ended: what the supervisor left behind,
/// links, the run directory, ids. The record then says that it does not run. May be repeated.
pub(super) async fn put_away(
    daemon: &Arc<Daemon>,
    record: &InstanceRecord,
    power: Option<&str>,
) -> Result<(), ApiError> {
    let manager = &daemon.instances;
    let run_dir = manager.run_dir(record);
    if run_dir.exists() {
        let dir = run_dir.clone();
        manager
            .with_driver(record.kind, move |driver| driver.clean_up(&dir))
            .await?;
    }
    crash::point(Step::StopEnded);
    ports::unplug(daemon, record).await?;
    crash::point(Step::StopUnplugged);
    remove_tree(&run_dir)?;
    crash::point(Step::StopCleaned);
    record::update(&*daemon.store, &record.project, &record.name, |record| {
        ports::forget(record);
        if let Some(power) = power {
            record.set_volatile("last_state.power", Some(power.to_owned()));
        }
        Ok(())
    })?;
    crash::point(Step::StopDone);
    manager
        .ids
        .release(&(record.project.clone(), record.name.clone()));
    Ok(())
}

/// Removes a directory with everything in it; does nothing when it is not there.
pub(super) fn remove_tree(path: &Path) -> Result<(), ApiError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ApiError::internal(format!(
            "Failed to remove {}: {error}",
            path.display()
        ))),
        _ => Ok(()),
    }
}
