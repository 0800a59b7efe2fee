//! `/1.0/storage-pools`.

use std::sync::Arc;

use api::{ResourcesStoragePool, ResourcesStoragePoolInodes, ResourcesStoragePoolSpace};
use api::{StoragePool, StoragePoolPut, StoragePoolsPost};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use crate::config_keys::check_pool_config;
use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::names::check_plain_name;
use crate::pools;
use crate::projects::url_suffix;
use crate::request::{IfMatch, JsonBody, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Document, get_as, keys, list_as, put_as};
use crate::update::Update;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/storage-pools", get(list).post(create))
        .route(
            "/1.0/storage-pools/{name}",
            get(show).put(update).patch(update).delete(remove),
        )
        .route("/1.0/storage-pools/{name}/resources", get(resources))
        .route("/1.0/storage-pools/{name}/buckets", get(no_buckets))
}

fn url(name: &str) -> String {
    format!("/1.0/storage-pools/{name}")
}

fn find(daemon: &Daemon, name: &str) -> Result<(StoragePool, Document), ApiError> {
    get_as(&*daemon.store, &keys::storage_pool(name))?.ok_or_else(|| ApiError::not_found("Storage pool"))
}

/// Instances, snapshots, profiles and custom volumes, by URL.
fn used_by(daemon: &Daemon, pool: &str) -> Result<Vec<String>, ApiError> {
    let mut urls = daemon.users.urls(&*daemon.store, |user| user.uses_pool(pool))?;
    for document in daemon.store.list(&keys::pool_volumes(pool))? {
        if let [_, pool, project, kind @ "custom", name] = keys::parts(document.key())[..] {
            urls.push(format!(
                "/1.0/storage-pools/{pool}/volumes/{kind}/{name}{}",
                url_suffix(project)
            ));
        }
    }
    urls.sort();
    urls.dedup();
    Ok(urls)
}

async fn list(State(daemon): State<Arc<Daemon>>, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let mut items = Vec::new();
    for (mut pool, _) in list_as::<StoragePool>(&*daemon.store, keys::STORAGE_POOLS)? {
        if !listing.wants_only_urls() {
            pool.used_by = used_by(&daemon, &pool.name)?;
            note_unavailable(&daemon, &mut pool);
        }
        items.push((url(&pool.name), pool));
    }
    listing.reply(items)
}

fn note_unavailable(daemon: &Daemon, pool: &mut StoragePool) {
    if daemon.pools.get(&pool.name).is_err() {
        "Unavailable".clone_into(&mut pool.status);
    }
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    JsonBody(post): JsonBody<StoragePoolsPost>,
) -> Reply {
    check_plain_name("storage pool", &post.name)?;
    if post.driver.is_empty() {
        return Err(ApiError::bad_request("No driver provided"));
    }
    let mut config = post.put.config;
    config.retain(|_, value| !value.is_empty());
    check_pool_config(&config)?;
    let pool = StoragePool {
        config,
        description: post.put.description,
        name: post.name,
        driver: post.driver,
        ..StoragePool::default()
    };
    let pool = pools::create(&daemon, pool).await?;
    let url = url(&pool.name);
    daemon.events.lifecycle(
        Lifecycle::new("storage-pool-created", &url)
            .context(serde_json::json!({"driver": pool.driver}))
            .requestor(&requestor),
    );
    Ok(response::created(&url))
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Reply {
    let (mut pool, document) = find(&daemon, &name)?;
    pool.used_by = used_by(&daemon, &name)?;
    note_unavailable(&daemon, &mut pool);
    Ok(response::sync_etag(pool, &document.etag()))
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    if_match: IfMatch,
    Path(name): Path<String>,
    update: Update,
) -> Reply {
    let (mut pool, document) = find(&daemon, &name)?;
    let expect = if_match.check(&document)?;
    let StoragePoolPut {
        mut config,
        description,
    } = update.over(&pool)?;
    config.retain(|_, value| !value.is_empty());
    check_pool_config(&config)?;
    for fixed in ["source", "size"] {
        if config.get(fixed) != pool.config.get(fixed) {
            return Err(ApiError::bad_request(format!(
                "Pool property {fixed:?} cannot be changed"
            )));
        }
    }
    pool.config = config;
    pool.description = description;
    put_as(&*daemon.store, &keys::storage_pool(&pool.name), &pool, expect)?;
    daemon
        .events
        .lifecycle(Lifecycle::new("storage-pool-updated", url(&pool.name)).requestor(&requestor));
    Ok(response::empty())
}

async fn remove(State(daemon): State<Arc<Daemon>>, requestor: Requestor, Path(name): Path<String>) -> Reply {
    let (pool, _) = find(&daemon, &name)?;
    if !used_by(&daemon, &name)?.is_empty() {
        return Err(ApiError::bad_request("The storage pool is currently in use"));
    }
    pools::delete(&daemon, pool).await?;
    daemon
        .events
        .lifecycle(Lifecycle::new("storage-pool-deleted", url(&name)).requestor(&requestor));
    Ok(response::empty())
}

async fn resources(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Reply {
    find(&daemon, &name)?;
    let pool = daemon.pools.get(&name)?;
    let found = tokio::task::spawn_blocking(move || pool.resources()).await??;
    Ok(response::sync(ResourcesStoragePool {
        space: ResourcesStoragePoolSpace {
            used: found.space.used,
            total: found.space.total,
        },
        inodes: ResourcesStoragePoolInodes {
            used: found.inodes.used,
            total: found.inodes.total,
        },
    }))
}

async fn no_buckets(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Reply {
    find(&daemon, &name)?;
    Ok(response::sync(Vec::<String>::new()))
}
