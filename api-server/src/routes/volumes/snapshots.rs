//! Snapshots of custom volumes.

use std::sync::Arc;

use api::{
    StorageVolume, StorageVolumeSnapshot, StorageVolumeSnapshotPost, StorageVolumeSnapshotPut,
    StorageVolumeSnapshotsPost, Timestamp,
};
use axum::extract::{Path, State};
use serde_json::json;

use super::{only_custom, project_of};
use crate::config_keys::parse_duration;
use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::names::check_plain_name;
use crate::operations::OperationSpec;
use crate::projects::url_suffix;
use crate::request::{IfMatch, JsonBody, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Document, get_as, keys, put_as};
use crate::update::Update;
use crate::volumes::{self, find, key_of};
use crate::{ApiError, Daemon};

type VolumePath = Path<(String, String, String)>;
type SnapshotPath = Path<(String, String, String, String)>;

fn volume_url(pool: &str, volume: &StorageVolume) -> String {
    format!("/1.0/storage-pools/{pool}/volumes/custom/{}", volume.name)
}

fn snapshot_url(pool: &str, volume: &StorageVolume, snapshot: &str) -> String {
    format!(
        "{}/snapshots/{snapshot}{}",
        volume_url(pool, volume),
        url_suffix(&volume.project)
    )
}

fn find_volume(
    daemon: &Daemon,
    project: &str,
    pool: &str,
    kind: &str,
    name: &str,
) -> Result<StorageVolume, ApiError> {
    only_custom(kind)?;
    find(daemon, pool, &project_of(daemon, project)?, name).map(|(volume, _)| volume)
}

fn find_snapshot(
    daemon: &Daemon,
    pool: &str,
    volume: &StorageVolume,
    name: &str,
) -> Result<(StorageVolumeSnapshot, Document), ApiError> {
    let key = keys::volume_snapshot(pool, &volume.project, "custom", &volume.name, name);
    get_as(&*daemon.store, &key)?.ok_or_else(|| ApiError::not_found("Storage volume snapshot"))
}

/// A snapshot in a list: with its volume's name, without content type, and with `null` for no expiry. On its own it
/// has all three; so it is with Incus.
#[derive(Debug, serde::Serialize)]
struct Listed {
    description: String,
    expires_at: Option<Timestamp>,
    name: String,
    config: api::Map,
    content_type: &'static str,
    created_at: Timestamp,
}

fn listed(volume: &StorageVolume, snapshot: StorageVolumeSnapshot) -> Listed {
    Listed {
        description: snapshot.description,
        expires_at: (!snapshot.expires_at.is_never()).then_some(snapshot.expires_at),
        name: format!("{}/{}", volume.name, snapshot.name),
        config: snapshot.config,
        content_type: "",
        created_at: snapshot.created_at,
    }
}

pub(super) async fn list(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((pool, kind, name)): VolumePath,
    query: Query,
) -> Reply {
    if kind != "custom" {
        // Snapshots of instances are listed with their instances.
        return Ok(response::sync(Vec::<String>::new()));
    }
    let volume = find_volume(&daemon, &project, &pool, &kind, &name)?;
    let listing = Listing::from_query(&query)?;
    let items = volumes::snapshots(&daemon, &key_of(&pool, &volume))?
        .into_iter()
        .map(|(snapshot, _)| {
            (
                snapshot_url(&pool, &volume, &snapshot.name),
                listed(&volume, snapshot),
            )
        })
        .collect();
    listing.reply(items)
}

pub(super) async fn create(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((pool, kind, name)): VolumePath,
    JsonBody(post): JsonBody<StorageVolumeSnapshotsPost>,
) -> Reply {
    let volume = find_volume(&daemon, &project, &pool, &kind, &name)?;
    let existing = volumes::snapshots(&daemon, &key_of(&pool, &volume))?;
    let snapshot = if post.name.is_empty() {
        next_name(&existing)
    } else {
        post.name
    };
    check_plain_name("volume", &snapshot)?;
    if existing.iter().any(|(known, _)| known.name == snapshot) {
        return Err(ApiError::conflict(format!(
            "Snapshot {snapshot:?} already exists"
        )));
    }
    let expires_at = match post.expires_at {
        Some(expires_at) => expires_at,
        None => expiry(&volume)?,
    };
    let url = snapshot_url(&pool, &volume, &snapshot);
    let spec = OperationSpec::task("Creating storage volume snapshot")
        .project(&volume.project)
        .resource(
            "storage_volumes",
            volume_url(&pool, &volume) + &url_suffix(&volume.project),
        )
        .resource("storage_volume_snapshots", &url);
    let work_daemon = Arc::clone(&daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        volumes::snapshot_create(&work_daemon, &pool, &volume, &snapshot, expires_at).await?;
        let event = Lifecycle::new("storage-volume-snapshot-created", url).project(&volume.project);
        work_daemon
            .events
            .lifecycle(event.context(json!({"type": "custom"})).requestor(&requestor));
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

/// `snap0`, `snap1`, …: the first number that was never used since the last one.
fn next_name(existing: &[(StorageVolumeSnapshot, Document)]) -> String {
    let last = existing
        .iter()
        .filter_map(|(snapshot, _)| snapshot.name.strip_prefix("snap")?.parse::<u64>().ok())
        .max();
    format!("snap{}", last.map_or(0, |last| last.saturating_add(1)))
}

fn expiry(volume: &StorageVolume) -> Result<Timestamp, ApiError> {
    match volume.config.get("snapshots.expiry") {
        None => Ok(Timestamp::never()),
        Some(text) => {
            let span = parse_duration(text).map_err(ApiError::bad_request)?;
            let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
            Ok(Timestamp::from_unix(
                Timestamp::now().as_unix().saturating_add(seconds),
            ))
        }
    }
}

pub(super) async fn show(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((pool, kind, name, snapshot)): SnapshotPath,
) -> Reply {
    let volume = find_volume(&daemon, &project, &pool, &kind, &name)?;
    let (snapshot, document) = find_snapshot(&daemon, &pool, &volume, &snapshot)?;
    Ok(response::sync_etag(snapshot, &document.etag()))
}

pub(super) async fn update(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path((pool, kind, name, snapshot)): SnapshotPath,
    update: Update,
) -> Reply {
    let volume = find_volume(&daemon, &project, &pool, &kind, &name)?;
    let (mut found, document) = find_snapshot(&daemon, &pool, &volume, &snapshot)?;
    let expect = if_match.check(&document)?;
    let put: StorageVolumeSnapshotPut = update.over(&found)?;
    found.description = put.description;
    found.expires_at = put.expires_at;
    put_as(&*daemon.store, document.key(), &found, expect)?;
    let url = snapshot_url(&pool, &volume, &snapshot);
    let event = Lifecycle::new("storage-volume-snapshot-updated", url).project(&volume.project);
    daemon.events.lifecycle(event.requestor(&requestor));
    Ok(response::empty())
}

pub(super) async fn rename(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((pool, kind, name, snapshot)): SnapshotPath,
    JsonBody(post): JsonBody<StorageVolumeSnapshotPost>,
) -> Reply {
    let volume = find_volume(&daemon, &project, &pool, &kind, &name)?;
    let (found, _) = find_snapshot(&daemon, &pool, &volume, &snapshot)?;
    check_plain_name("volume", &post.name)?;
    let spec = OperationSpec::task("Renaming storage volume snapshot")
        .project(&volume.project)
        .resource(
            "storage_volume_snapshots",
            snapshot_url(&pool, &volume, &snapshot),
        );
    let work_daemon = Arc::clone(&daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        volumes::snapshot_rename(&work_daemon, &key_of(&pool, &volume), &found, &post.name).await?;
        let url = snapshot_url(&pool, &volume, &post.name);
        let event = Lifecycle::new("storage-volume-snapshot-renamed", url).project(&volume.project);
        work_daemon
            .events
            .lifecycle(event.context(json!({"old_name": snapshot})).requestor(&requestor));
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

pub(super) async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((pool, kind, name, snapshot)): SnapshotPath,
) -> Reply {
    let volume = find_volume(&daemon, &project, &pool, &kind, &name)?;
    find_snapshot(&daemon, &pool, &volume, &snapshot)?;
    let url = snapshot_url(&pool, &volume, &snapshot);
    let spec = OperationSpec::task("Deleting storage volume snapshot")
        .project(&volume.project)
        .resource("storage_volume_snapshots", &url);
    let work_daemon = Arc::clone(&daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        volumes::snapshot_delete(&work_daemon, &key_of(&pool, &volume), &snapshot).await?;
        let event = Lifecycle::new("storage-volume-snapshot-deleted", url).project(&volume.project);
        work_daemon.events.lifecycle(event.requestor(&requestor));
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

pub(super) async fn no_backups() -> Reply {
    Ok(response::sync(Vec::<String>::new()))
}
