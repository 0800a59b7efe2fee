//! `/1.0/storage-pools/{pool}/volumes` and `/1.0/storage-volumes`.

mod custom;
mod listing;
mod snapshots;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::projects::{self, Feature, url_suffix};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    let volumes = "/1.0/storage-pools/{pool}/volumes";
    let volume = format!("{volumes}/{{kind}}/{{name}}");
    Router::new()
        .route(volumes, get(listing::list).post(custom::create))
        .route(
            &format!("{volumes}/{{kind}}"),
            get(listing::list_kind).post(custom::create_kind),
        )
        .route(
            &volume,
            get(custom::show)
                .put(custom::update)
                .patch(custom::update)
                .post(custom::rename)
                .delete(custom::remove),
        )
        .route(&format!("{volume}/state"), get(custom::state))
        .route(&format!("{volume}/backups"), get(snapshots::no_backups))
        .route(
            &format!("{volume}/snapshots"),
            get(snapshots::list).post(snapshots::create),
        )
        .route(
            &format!("{volume}/snapshots/{{snapshot}}"),
            get(snapshots::show)
                .put(snapshots::update)
                .patch(snapshots::update)
                .post(snapshots::rename)
                .delete(snapshots::remove),
        )
        .route("/1.0/storage-volumes", get(listing::list_all_pools))
        .route("/1.0/storage-volumes/{kind}", get(listing::list_all_pools_kind))
}

fn url(pool: &str, kind: &str, name: &str, project: &str) -> String {
    format!(
        "/1.0/storage-pools/{pool}/volumes/{kind}/{name}{}",
        url_suffix(project)
    )
}

fn project_of(daemon: &Daemon, project: &str) -> Result<String, ApiError> {
    projects::effective(&*daemon.store, project, Feature::StorageVolumes)
}

/// Refuses what is not for volumes of instances.
fn only_custom(kind: &str) -> Result<(), ApiError> {
    match kind {
        "custom" => Ok(()),
        "container" | "virtual-machine" | "image" => Err(ApiError::bad_request(format!(
            "Storage volumes of type {kind:?} are changed through what they belong to"
        ))),
        other => Err(ApiError::bad_request(format!(
            "Invalid storage volume type {other:?}"
        ))),
    }
}
