//! Lists of volumes: custom ones from their documents, those of instances from the instances.

use std::sync::Arc;

use api::StorageVolume;
use axum::extract::{Path, State};

use super::{project_of, url};
use crate::listing::Listing;
use crate::request::{Project, Query};
use crate::response::Reply;
use crate::store::{keys, list_as};
use crate::used_by::{User, UserKind};
use crate::volumes::{key_of, snapshots};
use crate::{ApiError, Daemon};

/// Kinds in the order in which Incus lists them.
const KINDS: [&str; 4] = ["container", "image", "custom", "virtual-machine"];

pub(super) async fn list(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path(pool): Path<String>,
    query: Query,
) -> Reply {
    one_pool(&daemon, &project, &pool, None, &query)
}

pub(super) async fn list_kind(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path((pool, kind)): Path<(String, String)>,
    query: Query,
) -> Reply {
    check_kind(&kind)?;
    one_pool(&daemon, &project, &pool, Some(&kind), &query)
}

pub(super) async fn list_all_pools(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
) -> Reply {
    all_pools(&daemon, &project, None, &query)
}

pub(super) async fn list_all_pools_kind(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path(kind): Path<String>,
    query: Query,
) -> Reply {
    check_kind(&kind)?;
    all_pools(&daemon, &project, Some(&kind), &query)
}

fn check_kind(kind: &str) -> Result<(), ApiError> {
    if KINDS.contains(&kind) {
        Ok(())
    } else {
        Err(ApiError::bad_request(format!(
            "Invalid storage volume type {kind:?}"
        )))
    }
}

fn one_pool(daemon: &Daemon, project: &str, pool: &str, kind: Option<&str>, query: &Query) -> Reply {
    if daemon.store.get(&keys::storage_pool(pool))?.is_none() {
        return Err(ApiError::not_found("Storage pool"));
    }
    let listing = Listing::from_query(query)?;
    listing.reply(collect(daemon, project, pool, kind, query)?)
}

fn all_pools(daemon: &Daemon, project: &str, kind: Option<&str>, query: &Query) -> Reply {
    let listing = Listing::from_query(query)?;
    let mut items = Vec::new();
    for pool in daemon.store.list(keys::STORAGE_POOLS)? {
        items.extend(collect(daemon, project, pool.name(), kind, query)?);
    }
    listing.reply(items)
}

fn collect(
    daemon: &Daemon,
    project: &str,
    pool: &str,
    kind: Option<&str>,
    query: &Query,
) -> Result<Vec<(String, StorageVolume)>, ApiError> {
    let all_projects = query.is_true("all-projects");
    let wanted = |volume_kind: &str| kind.is_none_or(|kind| kind == volume_kind);
    let mut volumes = Vec::new();
    for user in daemon.users.all(&*daemon.store)?.iter() {
        if user.pool == pool && wanted(&user.instance_type) && (all_projects || user.project == project) {
            volumes.push(of_instance(user));
        }
    }
    if wanted("custom") {
        let prefix = if all_projects {
            keys::pool_volumes(pool)
        } else {
            keys::volumes(pool, &project_of(daemon, project)?)
        };
        for (mut volume, _) in list_as::<StorageVolume>(&*daemon.store, &prefix)? {
            if volume.kind != "custom" {
                continue;
            }
            volume.used_by = daemon.users.urls(&*daemon.store, |user| {
                user.kind != UserKind::Snapshot && user.uses_volume(pool, &volume.name)
            })?;
            for (snapshot, _) in snapshots(daemon, &key_of(pool, &volume))? {
                volumes.push(StorageVolume {
                    name: format!("{}/{}", volume.name, snapshot.name),
                    config: snapshot.config,
                    description: snapshot.description,
                    created_at: snapshot.created_at,
                    used_by: Vec::new(),
                    ..volume.clone()
                });
            }
            volumes.push(volume);
        }
    }
    let order = |kind: &str| KINDS.iter().position(|known| *known == kind);
    volumes.sort_by(|a, b| (order(&a.kind), &a.project, &a.name).cmp(&(order(&b.kind), &b.project, &b.name)));
    Ok(volumes
        .into_iter()
        .map(|volume| {
            let path = match volume.name.split_once('/') {
                Some((name, snapshot)) => format!("{name}/snapshots/{snapshot}"),
                None => volume.name.clone(),
            };
            (url(pool, &volume.kind, &path, &volume.project), volume)
        })
        .collect())
}

/// The volume of an instance or of a snapshot of one.
pub(super) fn of_instance(user: &User) -> StorageVolume {
    StorageVolume {
        name: user.name.clone(),
        kind: user.instance_type.clone(),
        used_by: if user.kind == UserKind::Instance {
            vec![user.url()]
        } else {
            Vec::new()
        },
        location: api::LOCATION_NONE.to_owned(),
        content_type: if user.instance_type == "virtual-machine" {
            "block"
        } else {
            "filesystem"
        }
        .to_owned(),
        project: user.project.clone(),
        created_at: user.created_at,
        ..StorageVolume::default()
    }
}
