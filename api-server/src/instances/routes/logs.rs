//! `/1.0/instances/{name}/logs`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use super::super::logs::{self, EXEC_OUTPUT};
use crate::Daemon;
use crate::request::Project;
use crate::response::{self, Reply};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/instances/{name}/logs", get(list))
        .route("/1.0/instances/{name}/logs/exec-output", get(list_outputs))
        .route(
            "/1.0/instances/{name}/logs/exec-output/{file}",
            get(show_output).delete(remove_output),
        )
        .route("/1.0/instances/{name}/logs/{file}", get(show).delete(remove))
}

async fn list(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let names = logs::list(&daemon, &record, None)?;
    Ok(response::sync(
        names
            .iter()
            .map(|file| format!("/1.0/instances/{name}/logs/{file}"))
            .collect::<Vec<_>>(),
    ))
}

async fn show(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((name, file)): Path<(String, String)>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let (text, changed) = logs::read(&daemon, &record, None, &file)?;
    Ok(super::file(text, &file, changed))
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((name, file)): Path<(String, String)>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    logs::remove(&daemon, &record, None, &file)?;
    Ok(response::empty())
}

async fn list_outputs(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path(name): Path<String>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let names = logs::list(&daemon, &record, Some(EXEC_OUTPUT))?;
    let url = |file: &String| format!("/1.0/instances/{name}/logs/{EXEC_OUTPUT}/{file}");
    Ok(response::sync(names.iter().map(url).collect::<Vec<_>>()))
}

async fn show_output(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((name, file)): Path<(String, String)>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let (text, changed) = logs::read(&daemon, &record, Some(EXEC_OUTPUT), &file)?;
    Ok(super::file(text, &file, changed))
}

async fn remove_output(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((name, file)): Path<(String, String)>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    logs::remove(&daemon, &record, Some(EXEC_OUTPUT), &file)?;
    Ok(response::empty())
}
