//! One volume: making, showing, changing, removing.

use std::sync::Arc;

use api::{StorageVolume, StorageVolumePost, StorageVolumePut, StorageVolumesPost};
use api::{StorageVolumeState, StorageVolumeStateUsage};
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::json;

use super::listing::of_instance;
use super::{only_custom, project_of, url};
use crate::config_keys::check_volume_config;
use crate::events::Lifecycle;
use crate::names::check_plain_name;
use crate::operations::OperationSpec;
use crate::request::{IfMatch, JsonBody, Project, Requestor};
use crate::response::{self, Reply};
use crate::store::{Revision, keys};
use crate::update::Update;
use crate::used_by::UserKind;
use crate::volumes::{self, Content, find, key_of};
use crate::{ApiError, Daemon};

fn used_by(daemon: &Daemon, pool: &str, name: &str) -> Result<Vec<String>, ApiError> {
    daemon.users.urls(&*daemon.store, |user| {
        user.kind != UserKind::Snapshot && user.uses_volume(pool, name)
    })
}

pub(super) async fn create(
    state: State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(pool): Path<String>,
    JsonBody(post): JsonBody<StorageVolumesPost>,
) -> Reply {
    let kind = post.kind.clone();
    make(state.0, &project, requestor, pool, &kind, post).await
}

pub(super) async fn create_kind(
    state: State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((pool, kind)): Path<(String, String)>,
    JsonBody(post): JsonBody<StorageVolumesPost>,
) -> Reply {
    make(state.0, &project, requestor, pool, &kind, post).await
}

async fn make(
    daemon: Arc<Daemon>,
    project: &str,
    requestor: Requestor,
    pool: String,
    kind: &str,
    post: StorageVolumesPost,
) -> Reply {
    only_custom(kind)?;
    let project = project_of(&daemon, project)?;
    check_plain_name("volume", &post.name)?;
    if daemon.store.get(&keys::storage_pool(&pool))?.is_none() {
        return Err(ApiError::not_found("Storage pool"));
    }
    let content_type = match post.content_type.as_str() {
        "" | "filesystem" => "filesystem",
        "block" => "block",
        other => {
            return Err(ApiError::bad_request(format!(
                "Invalid content type {other:?}: use filesystem or block"
            )));
        }
    };
    let mut config = post.config;
    config.retain(|_, value| !value.is_empty());
    check_volume_config(&config)?;
    let mut volume = StorageVolume {
        config,
        description: post.description,
        name: post.name,
        kind: "custom".to_owned(),
        location: api::LOCATION_NONE.to_owned(),
        content_type: content_type.to_owned(),
        project: project.clone(),
        ..StorageVolume::default()
    };
    let event = created_event(&pool, &volume, &requestor);
    match post.source.kind.as_str() {
        "" => {
            volumes::create(&daemon, &pool, volume, Content::Empty).await?;
            daemon.events.lifecycle(event);
            Ok(response::empty())
        }
        "copy" => {
            let source_project = if post.source.project.is_empty() {
                project.clone()
            } else {
                project_of(&daemon, &post.source.project)?
            };
            let source_pool = if post.source.pool.is_empty() {
                pool.clone()
            } else {
                post.source.pool
            };
            let (source_name, snapshot) = match post.source.name.split_once('/') {
                Some((name, snapshot)) => (name, Some(snapshot.to_owned())),
                None => (post.source.name.as_str(), None),
            };
            let (source, _) = find(&daemon, &source_pool, &source_project, source_name)?;
            volume.content_type.clone_from(&source.content_type);
            for (key, value) in &source.config {
                volume.config.entry(key.clone()).or_insert_with(|| value.clone());
            }
            if daemon.store.get(&key_of(&pool, &volume).key())?.is_some() {
                return Err(ApiError::conflict("Volume by that name already exists"));
            }
            let content = Content::Copy {
                source: key_of(&source_pool, &source),
                with_snapshots: snapshot.is_none() && !post.source.volume_only,
                snapshot,
            };
            Ok(copy_later(&daemon, project, pool, volume, content, event))
        }
        other => Err(ApiError::bad_request(format!("Unknown source type {other:?}"))),
    }
}

fn created_event(pool: &str, volume: &StorageVolume, requestor: &Requestor) -> Lifecycle {
    Lifecycle::new(
        "storage-volume-created",
        url(pool, "custom", &volume.name, &volume.project),
    )
    .project(&volume.project)
    .context(json!({"type": "custom"}))
    .requestor(requestor)
}

fn copy_later(
    daemon: &Arc<Daemon>,
    project: String,
    pool: String,
    volume: StorageVolume,
    content: Content,
    event: Lifecycle,
) -> Response {
    let spec = OperationSpec::task("Copying storage volume").project(&project);
    let work_daemon = Arc::clone(daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        volumes::create(&work_daemon, &pool, volume, content).await?;
        work_daemon.events.lifecycle(event);
        Ok(None)
    });
    response::async_op(&operation)
}

pub(super) async fn show(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((pool, kind, name)): Path<(String, String, String)>,
) -> Reply {
    if kind == "container" || kind == "virtual-machine" {
        let users = daemon.users.all(&*daemon.store)?;
        let user = users.iter().find(|user| {
            user.kind == UserKind::Instance
                && user.pool == pool
                && user.instance_type == kind
                && user.project == project.0
                && user.name == name
        });
        let user = user.ok_or_else(|| ApiError::not_found("Storage volume"))?;
        let etag = daemon
            .store
            .get(&keys::instance(&project, &name))?
            .map(|document| document.etag());
        return Ok(response::sync_etag(of_instance(user), &etag.unwrap_or_default()));
    }
    only_custom(&kind)?;
    let (mut volume, document) = find(&daemon, &pool, &project_of(&daemon, &project)?, &name)?;
    volume.used_by = used_by(&daemon, &pool, &name)?;
    Ok(response::sync_etag(volume, &document.etag()))
}

pub(super) async fn update(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path((pool, kind, name)): Path<(String, String, String)>,
    update: Update,
) -> Reply {
    only_custom(&kind)?;
    let (old, document) = find(&daemon, &pool, &project_of(&daemon, &project)?, &name)?;
    let expect = if_match.check(&document)?;
    let put: StorageVolumePut = update.over(&old)?;
    if !put.restore.is_empty() {
        if daemon.instances_use_volume(&pool, &name)? {
            return Err(ApiError::bad_request(
                "Cannot restore custom volume used by running instances",
            ));
        }
        volumes::restore(&daemon, &key_of(&pool, &old), &put.restore).await?;
        let event = Lifecycle::new(
            "storage-volume-restored",
            url(&pool, "custom", &name, &old.project),
        );
        let event = event
            .project(&old.project)
            .context(json!({"snapshot": put.restore}));
        daemon.events.lifecycle(event.requestor(&requestor));
        return Ok(response::empty());
    }
    let mut config = put.config.unwrap_or_default();
    config.retain(|_, value| !value.is_empty());
    check_volume_config(&config)?;
    let new = StorageVolume {
        config,
        description: put.description,
        ..old.clone()
    };
    volumes::update(&daemon, &pool, &old, &new, expect).await?;
    let event = Lifecycle::new(
        "storage-volume-updated",
        url(&pool, "custom", &old.name, &old.project),
    );
    daemon
        .events
        .lifecycle(event.project(&old.project).requestor(&requestor));
    Ok(response::empty())
}

pub(super) async fn rename(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((pool, kind, name)): Path<(String, String, String)>,
    JsonBody(post): JsonBody<StorageVolumePost>,
) -> Reply {
    only_custom(&kind)?;
    let project = project_of(&daemon, &project)?;
    let (volume, document) = find(&daemon, &pool, &project, &name)?;
    if post.migration {
        return Err(ApiError::not_implemented(
            "Moving volumes to other servers is not supported",
        ));
    }
    if (!post.pool.is_empty() && post.pool != pool) || (!post.project.is_empty() && post.project != project) {
        return Err(ApiError::bad_request(
            "A volume cannot move to another pool or project: copy and delete it",
        ));
    }
    check_plain_name("volume", &post.name)?;
    if !used_by(&daemon, &pool, &name)?.is_empty() {
        return Err(ApiError::bad_request("Volume is still in use by instances"));
    }
    volumes::rename(
        &daemon,
        &pool,
        &volume,
        &post.name,
        Revision::Exact(document.revision()),
    )
    .await?;
    let url = url(&pool, "custom", &post.name, &project);
    daemon.events.lifecycle(
        Lifecycle::new("storage-volume-renamed", &url)
            .project(&project)
            .context(json!({"old_name": name}))
            .requestor(&requestor),
    );
    Ok(response::created(&url))
}

pub(super) async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path((pool, kind, name)): Path<(String, String, String)>,
) -> Reply {
    only_custom(&kind)?;
    let (volume, document) = find(&daemon, &pool, &project_of(&daemon, &project)?, &name)?;
    if !used_by(&daemon, &pool, &name)?.is_empty() {
        return Err(ApiError::bad_request("The storage volume is still in use"));
    }
    volumes::delete(
        &daemon,
        &key_of(&pool, &volume),
        Revision::Exact(document.revision()),
    )
    .await?;
    let event = Lifecycle::new(
        "storage-volume-deleted",
        url(&pool, "custom", &name, &volume.project),
    );
    daemon
        .events
        .lifecycle(event.project(&volume.project).requestor(&requestor));
    Ok(response::empty())
}

/// How full a volume is.
pub(super) async fn state(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((pool, kind, name)): Path<(String, String, String)>,
) -> Reply {
    only_custom(&kind)?;
    let (volume, _) = find(&daemon, &pool, &project_of(&daemon, &project)?, &name)?;
    let (open, id) = (daemon.pools.get(&pool)?, key_of(&pool, &volume).id());
    let (used, total) =
        tokio::task::spawn_blocking(move || Ok::<_, storage::Error>((open.usage(&id)?, open.size(&id)?)))
            .await??;
    let total = total.and_then(|total| i64::try_from(total).ok()).unwrap_or(0);
    Ok(response::sync(StorageVolumeState {
        usage: Some(StorageVolumeStateUsage { used, total }),
    }))
}
