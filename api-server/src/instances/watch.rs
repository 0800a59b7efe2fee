//! Watching instances: whatever ends one, this notices, puts it away, and does what follows from the way it ended.

use std::sync::Arc;
use std::time::Duration;

use super::lock::{InstanceKey, InstanceLock};
use super::manager::Running;
use super::supervisor;
use super::{delete, events, record, start, stop};
use crate::request::Requestor;
use crate::{ApiError, Daemon};

/// How often the end of another operation is waited for.
const RETRY: Duration = Duration::from_millis(50);

/// Watches an instance until it ends.
pub(super) fn spawn(daemon: &Arc<Daemon>, key: InstanceKey, running: Arc<Running>) {
    // The daemon must be able to go away while instances run, so watchers do not keep it.
    let weak = Arc::downgrade(daemon);
    tokio::spawn(async move {
        if let Err(error) = supervisor::ended(&running.supervisor.pidfd).await {
            tracing::error!(instance = key.1, %error, "cannot watch the supervisor any more");
            return;
        }
        if let Some(daemon) = weak.upgrade() {
            handle_end(&daemon, &key, &running).await;
        }
    });
}

async fn handle_end(daemon: &Arc<Daemon>, key: &InstanceKey, running: &Arc<Running>) {
    let (project, name) = key;
    let exit = supervisor::read_exit(&running.run_dir).unwrap_or_else(stop::crashed);
    tracing::info!(
        instance = name,
        project,
        reason = exit.reason,
        message = exit.message,
        "instance ended"
    );
    // An instance that ends while the daemon is told to freeze or to change it is put away all the same: whoever holds the
    // lock finds that it does not run any more.
    let put_away = async {
        let (record, _) = record::load(&*daemon.store, project, name)?;
        stop::put_away(daemon, &record, Some("STOPPED")).await?;
        Ok::<_, ApiError>(record)
    };
    let record = put_away.await;
    daemon.instances.remove(key);
    let is_expected = running.is_expected();
    running.tell_over(exit.clone());
    let record = match record {
        Ok(record) => record,
        Err(error) => {
            tracing::error!(instance = name, %error, "what an instance left is not all gone; the next start tries again");
            return;
        }
    };
    if is_expected {
        return;
    }
    let follow = if exit.is_reset() {
        start_again(daemon, key).await
    } else {
        events::tell(daemon, &record, "instance-shutdown", None, &Requestor::daemon());
        if record.ephemeral {
            delete_ephemeral(daemon, key).await
        } else {
            Ok(())
        }
    };
    if let Err(error) = follow {
        tracing::warn!(instance = name, %error, "what should follow an instance's end failed");
    }
}

async fn start_again(daemon: &Arc<Daemon>, key: &InstanceKey) -> Result<(), ApiError> {
    let lock = wait_for_lock(daemon, key, "restart").await?;
    if daemon.instances.running(&key.0, &key.1).is_some() {
        return Ok(());
    }
    start::start(daemon, &lock).await?;
    let (record, _) = record::load(&*daemon.store, &key.0, &key.1)?;
    events::tell(daemon, &record, "instance-restarted", None, &Requestor::daemon());
    Ok(())
}

async fn delete_ephemeral(daemon: &Arc<Daemon>, key: &InstanceKey) -> Result<(), ApiError> {
    let lock = wait_for_lock(daemon, key, "delete").await?;
    if daemon.instances.running(&key.0, &key.1).is_some() {
        return Ok(());
    }
    let record = delete::delete(daemon, &lock).await?;
    events::tell(daemon, &record, "instance-deleted", None, &Requestor::daemon());
    Ok(())
}

/// Waits for whoever works on an instance; gives up when it is gone.
async fn wait_for_lock(
    daemon: &Arc<Daemon>,
    key: &InstanceKey,
    action: &'static str,
) -> Result<InstanceLock, ApiError> {
    loop {
        if let Ok(lock) = daemon.instances.locks.take(key, action) {
            record::load(&*daemon.store, &key.0, &key.1)?;
            return Ok(lock);
        }
        tokio::time::sleep(RETRY).await;
    }
}
