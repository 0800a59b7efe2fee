//! `/1.0/instances/{name}/snapshots`.

use std::sync::Arc;

use api::{InstanceSnapshotPost, InstanceSnapshotPut, InstanceSnapshotsPost};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::json;

use super::super::record::{self, InstanceRecord};
use super::super::{events, snapshots};
use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::operations::OperationSpec;
use crate::request::{IfMatch, JsonBody, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/instances/{name}/snapshots", get(list).post(create))
        .route(
            "/1.0/instances/{name}/snapshots/{snapshot}",
            get(show).post(rename).put(replace).patch(replace).delete(remove),
        )
}

fn url(record: &InstanceRecord, snapshot: &str) -> String {
    format!(
        "/1.0/instances/{}/snapshots/{snapshot}{}",
        record.name,
        crate::projects::url_suffix(&record.project)
    )
}

fn task(description: &str, record: &InstanceRecord, snapshot: &str) -> OperationSpec {
    super::task(description, &record.project, &record.name).resource(
        "instances_snapshots",
        format!("/1.0/instances/{}/snapshots/{snapshot}", record.name),
    )
}

async fn list(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    Path(name): Path<String>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let listing = Listing::from_query(&query)?;
    let found = record::snapshots(&*daemon.store, &project, &name)?;
    listing.reply(
        found
            .iter()
            .map(|snapshot| (url(&record, &snapshot.name), snapshot.render()))
            .collect(),
    )
}

async fn show(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((name, snapshot)): Path<(String, String)>,
) -> Reply {
    super::find(&daemon, &project, &name)?;
    let (found, document) = record::load_snapshot(&*daemon.store, &project, &name, &snapshot)?;
    Ok(response::sync_etag(found.render(), &document.etag()))
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(post): JsonBody<InstanceSnapshotsPost>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let new = snapshots::check(&daemon, &record, &post)?;
    let worker = Arc::clone(&daemon);
    let spec = task("Snapshotting instance", &record, &new.name);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let lock = super::lock(&worker, &project, &name, "create-snapshot")?;
        snapshots::create(&worker, &lock, &new).await?;
        events::tell_snapshot(
            &worker,
            &record,
            &new.name,
            "instance-snapshot-created",
            &requestor,
        );
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn rename(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((name, snapshot)): Path<(String, String)>,
    JsonBody(post): JsonBody<InstanceSnapshotPost>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    record::load_snapshot(&*daemon.store, &project, &name, &snapshot)?;
    if post.migration || post.target.is_some() {
        return Err(ApiError::bad_request(
            "Migration between servers is not supported",
        ));
    }
    let worker = Arc::clone(&daemon);
    let spec = task("Renaming snapshot", &record, &snapshot);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let lock = super::lock(&worker, &project, &name, "rename-snapshot")?;
        snapshots::rename(&worker, &lock, &snapshot, &post.name).await?;
        worker.events.lifecycle(
            Lifecycle::new("instance-snapshot-renamed", url(&record, &post.name))
                .project(&project)
                .context(json!({ "old_name": snapshot }))
                .requestor(&requestor),
        );
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn replace(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path((name, snapshot)): Path<(String, String)>,
    JsonBody(put): JsonBody<InstanceSnapshotPut>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let (_, document) = record::load_snapshot(&*daemon.store, &project, &name, &snapshot)?;
    if_match.check(&document)?;
    let worker = Arc::clone(&daemon);
    let spec = task("Updating snapshot", &record, &snapshot);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let _lock = super::lock(&worker, &project, &name, "update-snapshot")?;
        snapshots::set_expiry(&worker, &project, &name, &snapshot, put.expires_at)?;
        events::tell_snapshot(
            &worker,
            &record,
            &snapshot,
            "instance-snapshot-updated",
            &requestor,
        );
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((name, snapshot)): Path<(String, String)>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    record::load_snapshot(&*daemon.store, &project, &name, &snapshot)?;
    let worker = Arc::clone(&daemon);
    let spec = task("Deleting snapshot", &record, &snapshot);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let lock = super::lock(&worker, &project, &name, "delete-snapshot")?;
        snapshots::delete(&worker, &lock, &snapshot).await?;
        events::tell_snapshot(
            &worker,
            &record,
            &snapshot,
            "instance-snapshot-deleted",
            &requestor,
        );
        Ok(None)
    });
    Ok(response::async_op(&operation))
}
