//! `/1.0/instances/{name}/metadata` and its templates.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::routing::get;

use super::super::{events, metadata};
use crate::request::{Project, Query, Requestor, read_document};
use crate::response::{self, Reply};
use crate::update::Update;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route(
            "/1.0/instances/{name}/metadata",
            get(show).put(update).patch(update),
        )
        .route(
            "/1.0/instances/{name}/metadata/templates",
            get(show_templates).post(write_template).delete(remove_template),
        )
}

async fn show(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    Ok(response::sync(metadata::read(&daemon, &record)?))
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    update: Update,
) -> Reply {
    let _lock = super::lock(&daemon, &project, &name, "update")?;
    let record = super::find(&daemon, &project, &name)?;
    let wanted: images::Metadata = update.over(&metadata::read(&daemon, &record)?)?;
    metadata::write(&daemon, &record, &wanted)?;
    events::tell(&daemon, &record, "instance-metadata-updated", None, &requestor);
    Ok(response::empty())
}

async fn show_templates(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    Path(name): Path<String>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    match query.get_non_empty("path") {
        None => Ok(response::sync(metadata::templates(&daemon, &record)?)),
        Some(path) => {
            let (text, changed) = metadata::read_template(&daemon, &record, path)?;
            Ok(super::file(text, path, changed))
        }
    }
}

async fn write_template(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    Path(name): Path<String>,
    request: Request,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let path = query
        .get_non_empty("path")
        .ok_or_else(|| ApiError::bad_request("missing path argument"))?;
    let text = read_document(request).await?;
    metadata::write_template(&daemon, &record, path, &text)?;
    Ok(response::empty())
}

async fn remove_template(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    Path(name): Path<String>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let path = query
        .get_non_empty("path")
        .ok_or_else(|| ApiError::bad_request("missing path argument"))?;
    metadata::remove_template(&daemon, &record, path)?;
    Ok(response::empty())
}
