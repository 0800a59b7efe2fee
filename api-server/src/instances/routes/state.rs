//! `/1.0/instances/{name}/state`: how an instance is, and start, stop, restart, freeze and unfreeze.

use std::sync::Arc;

use api::{InstanceStatePut, StatusCode};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use super::super::lock::InstanceLock;
use super::super::record::{self, Phase};
use super::super::{delete, events, start, state, stop};
use crate::request::{JsonBody, Project, Requestor};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/instances/{name}/state", get(show).put(change))
}

async fn show(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    let (record, document) = record::load(&*daemon.store, &project, &name)?;
    Ok(response::sync_etag(
        state::state(&daemon, &record).await,
        &document.etag(),
    ))
}

/// A change of state that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Start,
    Stop { force: bool, timeout: i64 },
    Restart { force: bool, timeout: i64 },
    Freeze,
    Unfreeze,
}

impl Change {
    pub(super) fn parse(put: &InstanceStatePut) -> Result<Self, ApiError> {
        if put.stateful {
            return Err(ApiError::bad_request(
                "Stateful start and stop are not supported by this server: there is no saved state to go back to",
            ));
        }
        let (force, timeout) = (put.force, put.timeout);
        match put.action.as_str() {
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop { force, timeout }),
            "restart" => Ok(Self::Restart { force, timeout }),
            "freeze" => Ok(Self::Freeze),
            "unfreeze" => Ok(Self::Unfreeze),
            other => Err(ApiError::bad_request(format!("Unknown action: {other:?}"))),
        }
    }

    /// What others are told who come in between.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop { .. } => "stop",
            Self::Restart { .. } => "restart",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Start => "Starting instance",
            Self::Stop { .. } => "Stopping instance",
            Self::Restart { .. } => "Restarting instance",
            Self::Freeze => "Freezing instance",
            Self::Unfreeze => "Unfreezing instance",
        }
    }

    pub(super) fn plural_description(self) -> &'static str {
        match self {
            Self::Start => "Starting instances",
            Self::Stop { .. } => "Stopping instances",
            Self::Restart { .. } => "Restarting instances",
            Self::Freeze => "Freezing instances",
            Self::Unfreeze => "Unfreezing instances",
        }
    }

    /// Whether an instance in this state is meant when all are told to change.
    pub(super) fn concerns(self, status: StatusCode) -> bool {
        match self {
            Self::Start => status == StatusCode::Stopped,
            Self::Stop { .. } => status != StatusCode::Stopped,
            Self::Restart { .. } | Self::Freeze => status == StatusCode::Running,
            Self::Unfreeze => status == StatusCode::Frozen,
        }
    }
}

async fn change(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(put): JsonBody<InstanceStatePut>,
) -> Reply {
    let change = Change::parse(&put)?;
    super::find(&daemon, &project, &name)?;
    let worker = Arc::clone(&daemon);
    let spec = super::task(change.description(), &project, &name);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let lock = super::lock(&worker, &project, &name, change.word())?;
        change_state(&worker, &lock, &change, &requestor).await?;
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

/// Does it and tells it.
pub(super) async fn change_state(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    change: &Change,
    who: &Requestor,
) -> Result<(), ApiError> {
    let (project, name) = lock.key();
    let (record, _) = record::load(&*daemon.store, project, name)?;
    if record.phase != Phase::Ready {
        return Err(ApiError::bad_request(format!(
            "Instance {name:?} is not complete"
        )));
    }
    let tell = |action: &str| events::tell(daemon, &record, action, None, who);
    match *change {
        Change::Start => {
            start::start(daemon, lock).await?;
            tell("instance-started");
        }
        Change::Stop { force, timeout } => {
            stop::stop(daemon, lock, force, timeout).await?;
            tell(if force {
                "instance-stopped"
            } else {
                "instance-shutdown"
            });
            if record.ephemeral {
                lock.turn_into("delete");
                delete::delete(daemon, lock).await?;
                tell("instance-deleted");
            }
        }
        Change::Restart { force, timeout } => {
            stop::stop(daemon, lock, force, timeout)
                .await
                .map_err(|error| match error.message.as_str() {
                    "The instance is already stopped" => ApiError::bad_request("The instance isn't running"),
                    _ => error,
                })?;
            start::start(daemon, lock).await?;
            tell("instance-restarted");
        }
        Change::Freeze => {
            stop::set_frozen(daemon, lock, true).await?;
            tell("instance-paused");
        }
        Change::Unfreeze => {
            stop::set_frozen(daemon, lock, false).await?;
            tell("instance-resumed");
        }
    }
    Ok(())
}
