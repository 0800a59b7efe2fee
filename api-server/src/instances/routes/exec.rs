//! `/1.0/instances/{name}/exec`.

use std::sync::Arc;

use api::InstanceExecPost;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::post;
use serde_json::json;

use super::super::{events, exec, expand, logs};
use crate::operations::OperationSpec;
use crate::request::{JsonBody, Project, Requestor};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/instances/{name}/exec", post(run))
}

async fn run(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(mut wanted): JsonBody<InstanceExecPost>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let running = daemon.instances.expect_running(&project, &name)?;
    if running.is_frozen() {
        return Err(ApiError::bad_request("Instance is frozen"));
    }
    if wanted.command.is_empty() {
        return Err(ApiError::bad_request("No command was given"));
    }
    let config = expand::expand(&*daemon.store, &record)?;
    let environment = exec::environment(&config, &wanted);
    let url = format!("/1.0/instances/{name}");
    let worker = Arc::clone(&daemon);
    let told = json!({ "command": wanted.command });
    let operation = if wanted.wait_for_websocket {
        let spec = OperationSpec::websocket("Executing command", exec::socket_names(&wanted))
            .project(&project)
            .resource("instances", url)
            .metadata(json!({
                "command": wanted.command,
                "environment": environment,
                "interactive": wanted.interactive,
            }));
        daemon.operations.spawn(spec, move |context| async move {
            exec::with_websockets(&worker, &running, wanted, environment, &context).await
        })
    } else {
        // Without websockets nobody could see a terminal.
        wanted.interactive = false;
        let recording = wanted.record_output.then(|| exec::Recording {
            folder: daemon.instances.log_dir(&record).join(logs::EXEC_OUTPUT),
            url: format!("{url}/logs/{}", logs::EXEC_OUTPUT),
        });
        let spec = OperationSpec::task("Executing command")
            .project(&project)
            .resource("containers", url.clone())
            .resource("instances", url);
        daemon.operations.spawn(spec, move |context| async move {
            exec::without_websockets(&worker, &running, wanted, environment, recording, &context).await
        })
    };
    events::tell(&daemon, &record, "instance-exec", Some(told), &requestor);
    Ok(response::async_op(&operation))
}
