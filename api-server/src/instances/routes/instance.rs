//! `/1.0/instances/{name}`: one instance, shown, changed, renamed, rebuilt, removed.

use std::sync::Arc;

use api::{InstancePost, InstancePut, InstanceRebuildPost};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde_json::json;

use super::super::record::{self, Phase};
use super::super::{content, delete, events, rename, restore, state, update};
use super::collection::{full, render};
use crate::request::{IfMatch, JsonBody, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route(
            "/1.0/instances/{name}",
            get(show)
                .put(replace)
                .patch(patch)
                .post(rename_or_move)
                .delete(remove),
        )
        .route("/1.0/instances/{name}/rebuild", post(rebuild))
}

async fn show(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    Path(name): Path<String>,
) -> Reply {
    let (record, document) = record::load(&*daemon.store, &project, &name)?;
    if query.recursion() == 0 {
        return Ok(response::sync_etag(render(&daemon, &record)?, &document.etag()));
    }
    let state = state::state(&daemon, &record).await;
    Ok(response::sync_etag(
        full(&daemon, &record, state)?,
        &document.etag(),
    ))
}

async fn replace(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path(name): Path<String>,
    JsonBody(put): JsonBody<InstancePut>,
) -> Reply {
    let (record, document) = record::load(&*daemon.store, &project, &name)?;
    if_match.check(&document)?;
    if !put.restore.is_empty() {
        return restore_snapshot(&daemon, project, requestor, record, put);
    }
    let worker = Arc::clone(&daemon);
    let spec = super::task("Updating instance", &project, &name);
    let lock = super::lock(&daemon, &project, &name, "update")?;
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let (record, document) = update::current(&worker, &lock)?;
        if_match.check(&document)?;
        let changed = update::apply(&worker, &lock, update::merged(&record, put, false), &document).await?;
        events::tell(&worker, &changed, "instance-updated", None, &requestor);
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

/// A PATCH is answered when it is done, unlike a PUT.
async fn patch(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path(name): Path<String>,
    JsonBody(put): JsonBody<InstancePut>,
) -> Reply {
    let lock = super::lock(&daemon, &project, &name, "update")?;
    let (record, document) = update::current(&daemon, &lock)?;
    if_match.check(&document)?;
    let changed = update::apply(&daemon, &lock, update::merged(&record, put, true), &document).await?;
    events::tell(&daemon, &changed, "instance-updated", None, &requestor);
    Ok(response::empty())
}

fn restore_snapshot(
    daemon: &Arc<Daemon>,
    project: Project,
    requestor: Requestor,
    record: record::InstanceRecord,
    put: InstancePut,
) -> Reply {
    if put.stateful {
        return Err(ApiError::bad_request(
            "Stateful snapshots are not supported by this server",
        ));
    }
    // Clients name the snapshot with or without its instance.
    let prefix = format!("{}/", record.name);
    let snapshot = put
        .restore
        .strip_prefix(&prefix)
        .unwrap_or(&put.restore)
        .to_owned();
    record::load_snapshot(&*daemon.store, &project, &record.name, &snapshot)?;
    let worker = Arc::clone(daemon);
    let spec = super::task("Restoring snapshot", &project, &record.name);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let lock = super::lock(&worker, &project, &record.name, "restore")?;
        let restored = restore::restore(&worker, &lock, &snapshot).await?;
        let told = json!({ "snapshot": format!("{}/{snapshot}", record.name) });
        events::tell(&worker, &restored, "instance-restored", Some(told), &requestor);
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn rename_or_move(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(post): JsonBody<InstancePost>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    let stays = (post.pool.is_empty() || post.pool == record.pool)
        && (post.project.is_empty() || post.project == project.0)
        && post.target.is_none();
    if post.migration && !stays {
        return Err(ApiError::bad_request(
            "Instances cannot be moved to another pool, project or server yet: copy the instance and delete the original",
        ));
    }
    let worker = Arc::clone(&daemon);
    let description = if post.migration {
        "Migrating instance"
    } else {
        "Renaming instance"
    };
    let spec = super::task(description, &project, &name);
    super::super::validate::instance_name(&post.name)?;
    let operation = daemon.operations.spawn(spec, move |_| async move {
        if post.migration && post.name == name {
            return Ok(None);
        }
        let lock = super::lock(&worker, &project, &name, "rename")?;
        let renamed = rename::rename(&worker, &lock, &post.name).await?;
        events::tell(
            &worker,
            &renamed,
            "instance-renamed",
            Some(json!({ "old_name": name })),
            &requestor,
        );
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn rebuild(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(post): JsonBody<InstanceRebuildPost>,
) -> Reply {
    super::find(&daemon, &project, &name)?;
    let image = match post.source.kind.as_str() {
        "none" => None,
        "image" => Some(content::find_image(&daemon, &project, &post.source)?),
        other => return Err(ApiError::bad_request(format!("Unknown source type {other:?}"))),
    };
    let worker = Arc::clone(&daemon);
    let spec = super::task("Rebuilding instance", &project, &name);
    let operation = daemon.operations.spawn(spec, move |context| async move {
        let lock = super::lock(&worker, &project, &name, "rebuild")?;
        let rebuilt = restore::rebuild(&worker, &lock, image, &context).await?;
        events::tell(&worker, &rebuilt, "instance-updated", None, &requestor);
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
) -> Reply {
    let record = super::find(&daemon, &project, &name)?;
    check_removable(&daemon, &record)?;
    let worker = Arc::clone(&daemon);
    let spec = super::task("Deleting instance", &project, &name);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let lock = super::lock(&worker, &project, &name, "delete")?;
        check_removable(&worker, &super::find(&worker, &project, &name)?)?;
        let deleted = delete::delete(&worker, &lock).await?;
        events::tell(&worker, &deleted, "instance-deleted", None, &requestor);
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

fn check_removable(daemon: &Arc<Daemon>, record: &record::InstanceRecord) -> Result<(), ApiError> {
    if daemon.instances.running(&record.project, &record.name).is_some() {
        return Err(ApiError::bad_request("Instance is running"));
    }
    let config = super::super::expand::expand(&*daemon.store, record)?;
    if config.is_true("security.protection.delete") && record.phase == Phase::Ready {
        return Err(ApiError::bad_request("Instance is protected from being deleted"));
    }
    Ok(())
}
