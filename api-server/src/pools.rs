//! [`Pools`]: the open storage pools of this host, and how they are made and removed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use api::StoragePool;
use storage::{Pool, PoolConfig, VolumeKind};

use crate::intents::Intent;
use crate::paths::StatePaths;
use crate::store::{Change, Revision, keys, list_as};
use crate::warnings::{Severity, raise, resolve};
use crate::{ApiError, Daemon};

/// The kind of warning about a pool that cannot be opened.
const UNAVAILABLE: &str = "Storage pool unavailable";

/// Open pools by name. The store says which pools should be there; this holds those that could be opened.
#[derive(Debug, Default)]
pub struct Pools {
    open: RwLock<BTreeMap<String, Arc<Pool>>>,
}

impl Pools {
    /// An open pool.
    pub fn get(&self, name: &str) -> Result<Arc<Pool>, ApiError> {
        self.open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
            .ok_or_else(|| ApiError::not_found("Storage pool"))
    }

    /// All open pools.
    pub fn all(&self) -> Vec<(String, Arc<Pool>)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.iter()
            .map(|(name, pool)| (name.clone(), Arc::clone(pool)))
            .collect()
    }

    fn insert(&self, name: &str, pool: Pool) {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), Arc::new(pool));
    }

    fn remove(&self, name: &str) {
        self.open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

/// A pool's document as the storage room takes it. A `source` below the state directory is the room's own choice.
fn room_config(paths: &StatePaths, pool: &StoragePool) -> PoolConfig {
    let own = paths.storage_pool(&pool.name);
    let source = pool
        .config
        .get("source")
        .filter(|source| !source.is_empty())
        .map(PathBuf::from);
    let mut config = pool.config.clone();
    config.retain(|key, _| key != "source" && !key.starts_with("user.") && !key.starts_with("volatile."));
    PoolConfig {
        name: pool.name.clone(),
        driver: pool.driver.clone(),
        source: source.filter(|source| *source != own),
        config,
    }
}

/// Opens all pools the store knows. One that cannot be opened (a disk that is not there) is a warning: what is on the
/// others goes on working.
pub async fn open_all(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    for (pool, _) in list_as::<StoragePool>(&*daemon.store, keys::STORAGE_POOLS)? {
        let url = format!("/1.0/storage-pools/{}", pool.name);
        let config = room_config(&daemon.paths, &pool);
        let root = daemon.paths.root().to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let pool = Pool::open(&config, &root)?;
            pool.recover()?;
            Ok::<_, storage::Error>(pool)
        })
        .await?;
        match opened {
            Ok(open) => {
                daemon.pools.insert(&pool.name, open);
                resolve(daemon, UNAVAILABLE, &url);
            }
            Err(error) => raise(
                daemon,
                Severity::High,
                UNAVAILABLE,
                &url,
                &crate::error::chain(&error),
            ),
        }
    }
    Ok(())
}

/// Makes a pool, with its document.
pub async fn create(daemon: &Arc<Daemon>, mut pool: StoragePool) -> Result<StoragePool, ApiError> {
    let key = keys::storage_pool(&pool.name);
    if daemon.store.get(&key)?.is_some() {
        return Err(ApiError::conflict("The storage pool already exists"));
    }
    let begun = Intent::PoolCreate { pool: pool.clone() }.begin(&*daemon.store)?;
    crate::crash::point("pool-create-intent");
    let config = room_config(&daemon.paths, &pool);
    let root = daemon.paths.root().to_owned();
    let made = tokio::task::spawn_blocking(move || Pool::create(&config, &root)).await?;
    let open = match made {
        Ok(open) => open,
        Err(error) => {
            // What was there before must not be taken for ours.
            let foreign = matches!(
                error,
                storage::Error::SourceNotEmpty(_) | storage::Error::InvalidConfig(_)
            );
            if foreign {
                begun.end(&*daemon.store)?
            } else {
                begun.settle(daemon).await
            }
            return Err(error.into());
        }
    };
    crate::crash::point("pool-create-made");
    pool.config
        .insert("source".to_owned(), open.root().display().to_string());
    "Created".clone_into(&mut pool.status);
    pool.locations = vec![api::LOCATION_NONE.to_owned()];
    let written = Change::put(key, &pool, Revision::Absent)
        .and_then(|change| daemon.store.transact(vec![change, begun.ending()]));
    if let Err(error) = written {
        begun.settle(daemon).await;
        return Err(error.into());
    }
    daemon.pools.insert(&pool.name, open);
    Ok(pool)
}

/// Removes a pool that nothing uses, with its document.
pub async fn delete(daemon: &Arc<Daemon>, pool: StoragePool) -> Result<(), ApiError> {
    let key = keys::storage_pool(&pool.name);
    let begun = Intent::PoolDelete {
        pool: pool.name.clone(),
    }
    .begin(&*daemon.store)?;
    crate::crash::point("pool-delete-intent");
    if let Err(error) = remove_from_host(daemon, pool).await {
        // Still there, or partly: the document stays, so that deleting it again is possible.
        begun.end(&*daemon.store)?;
        return Err(error);
    }
    crate::crash::point("pool-delete-removed");
    daemon
        .store
        .transact(vec![Change::delete(key, Revision::Any), begun.ending()])?;
    Ok(())
}

/// Removes a pool from the host, with the images that were unpacked in it. A pool that was only half made, or is
/// already gone, is removed as well.
pub(crate) async fn remove_from_host(daemon: &Arc<Daemon>, pool: StoragePool) -> Result<(), ApiError> {
    let open = daemon.pools.get(&pool.name).ok();
    let config = room_config(&daemon.paths, &pool);
    let own = config.source.is_none();
    let root = daemon.paths.root().to_owned();
    let directory = daemon.paths.storage_pool(&pool.name);
    tokio::task::spawn_blocking(move || {
        let open = match open {
            Some(open) => open,
            None => match Pool::open(&config, &root) {
                Ok(open) => Arc::new(open),
                Err(storage::Error::PoolMissing { .. }) => return Ok(()),
                Err(error) if own => return remove_half_made(&directory).map_err(|_| ApiError::from(error)),
                Err(error) => return Err(error.into()),
            },
        };
        for volume in open.list()? {
            if volume.kind == VolumeKind::Image {
                open.delete_volume(&volume)?;
            }
        }
        Ok::<_, ApiError>(open.destroy()?)
    })
    .await??;
    daemon.pools.remove(&pool.name);
    Ok(())
}

/// Removes the empty directories of a pool that was not completely made. Files in them are somebody's: they stay,
/// and the removal fails.
fn remove_half_made(directory: &std::path::Path) -> std::io::Result<()> {
    match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(entries) => {
            for entry in entries {
                std::fs::remove_dir(entry?.path())?;
            }
        }
    }
    std::fs::remove_dir(directory)
}
