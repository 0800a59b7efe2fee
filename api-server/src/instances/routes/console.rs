//! `/1.0/instances/{name}/console`: attaching to it, and what it has said.

use std::sync::Arc;

use api::InstanceConsolePost;
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::json;

use super::super::{console, events, logs};
use crate::operations::OperationSpec;
use crate::request::{JsonBody, Project, Requestor};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route(
        "/1.0/instances/{name}/console",
        get(show).post(attach).delete(clear),
    )
}

async fn show(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let (text, changed) = logs::console(&daemon, &record)?;
    Ok(super::file(text, "", changed))
}

async fn clear(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    logs::clear_console(&daemon, &record)?;
    Ok(response::empty())
}

async fn attach(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(mut wanted): JsonBody<InstanceConsolePost>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    if wanted.kind.is_empty() {
        wanted.kind = "console".to_owned();
    }
    match (wanted.kind.as_str(), record.is_vm()) {
        ("console", _) => {}
        ("vga", false) => {
            return Err(ApiError::bad_request(
                "VGA console is only supported by virtual machines",
            ));
        }
        ("vga", true) => {
            return Err(ApiError::bad_request(
                "This server's virtual machines have no VGA console",
            ));
        }
        (other, _) => return Err(ApiError::bad_request(format!("Unknown console type {other:?}"))),
    }
    let running = daemon.instances.expect_running(&project, &name)?;
    if running.is_frozen() {
        return Err(ApiError::bad_request("Instance is frozen"));
    }
    let spec = OperationSpec::websocket("Showing console", &["0", "control"])
        .project(&project)
        .resource("instances", format!("/1.0/instances/{name}"))
        .cancellable();
    let worker = Arc::clone(&daemon);
    let told = json!({ "type": wanted.kind });
    let operation = daemon.operations.spawn(spec, move |context| async move {
        console::attach(&worker, &running, &wanted, &context).await
    });
    events::tell(&daemon, &record, "instance-console", Some(told), &requestor);
    Ok(response::async_op(&operation))
}
