//! Intents: what is about to be done outside of the store, written into it first.
//!
//! A change that touches the store *and* the host (files, links) happens in three steps: write the intent, do it,
//! remove the intent together with the change of the store. Whoever finds an intent without its change undoes or
//! completes it ([`settle`]): the failed request itself, or the next daemon. Every settlement can be repeated.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use storage::{ContentType, VolumeId, VolumeKind};

use crate::paths::StatePaths;
use crate::store::{Change, Revision, Store, keys, list_as};
use crate::{ApiError, Daemon};

/// What is about to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "kebab-case")]
pub enum Intent {
    /// A pool is made; without its document it is removed.
    PoolCreate {
        /// The pool, as its document will be.
        pool: api::StoragePool,
    },
    /// A pool is removed; its document goes last.
    PoolDelete {
        /// Its name.
        pool: String,
    },
    /// A custom volume is made; without its document it is removed.
    VolumeCreate {
        /// Which one.
        volume: VolumeKey,
    },
    /// A custom volume is removed; its document is already gone.
    VolumeDelete {
        /// Which one.
        volume: VolumeKey,
    },
    /// A custom volume gets another name; its documents have it already.
    VolumeRename {
        /// What it was.
        volume: VolumeKey,
        /// The new name.
        to: String,
    },
    /// A snapshot is made; without its document it is removed.
    SnapshotCreate {
        /// Of which volume.
        volume: VolumeKey,
        /// Its name.
        snapshot: String,
    },
    /// A snapshot is removed; its document is already gone.
    SnapshotDelete {
        /// Of which volume.
        volume: VolumeKey,
        /// Its name.
        snapshot: String,
    },
    /// A snapshot gets another name; its document has it already.
    SnapshotRename {
        /// Of which volume.
        volume: VolumeKey,
        /// What it was.
        snapshot: String,
        /// The new name.
        to: String,
    },
    /// A network is made; without its document it is removed.
    NetworkCreate {
        /// Its name.
        network: String,
    },
    /// A network is removed from the host; its document is already gone.
    NetworkDelete {
        /// Its name.
        network: String,
    },
    /// Files of an image are put into place or removed: they stay exactly if a project has the image.
    Image {
        /// Its fingerprint.
        fingerprint: String,
    },
}

/// Which custom volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeKey {
    /// Its pool.
    pub pool: String,
    /// Its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// Whether it is a block device.
    pub block: bool,
}

impl VolumeKey {
    /// Its key in the store.
    pub fn key(&self) -> String {
        keys::volume(&self.pool, &self.project, "custom", &self.name)
    }

    /// Its id in its pool.
    pub fn id(&self) -> VolumeId {
        let content = if self.block {
            ContentType::Block
        } else {
            ContentType::Filesystem
        };
        VolumeId::new(
            VolumeKind::Custom,
            content,
            StatePaths::disk_name(&self.project, &self.name),
        )
    }

    /// The same volume under another name.
    #[must_use]
    pub fn renamed(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..self.clone()
        }
    }
}

/// An intent that is in the store.
#[derive(Debug)]
#[must_use = "an intent that is not ended is settled at the next start"]
pub struct Begun {
    key: String,
    intent: Intent,
}

impl Intent {
    /// A change that writes the intent, and what ends it: for transactions that do more.
    pub fn prepare(self) -> Result<(Change, Begun), ApiError> {
        let key = keys::intent("change", &uuid::Uuid::new_v4().to_string());
        let change = Change::put(key.clone(), &self, Revision::Absent)?;
        Ok((change, Begun { key, intent: self }))
    }

    /// Writes the intent.
    pub fn begin(self, store: &dyn Store) -> Result<Begun, ApiError> {
        let (change, begun) = self.prepare()?;
        store.transact(vec![change])?;
        Ok(begun)
    }
}

impl Begun {
    /// The change that ends the intent: belongs into the transaction that makes it true.
    pub fn ending(&self) -> Change {
        Change::delete(self.key.clone(), Revision::Any)
    }

    /// Ends the intent: it was done.
    pub fn end(self, store: &dyn Store) -> Result<(), ApiError> {
        Ok(store.transact(vec![self.ending()]).map(drop)?)
    }

    /// It did not work: undoes or completes it now. Should that fail too, the next start tries again.
    pub async fn settle(self, daemon: &Arc<Daemon>) {
        match settle(daemon, &self.intent).await {
            Ok(()) => {
                if let Err(error) = self.end(&*daemon.store) {
                    tracing::error!(%error, "intent could not be removed");
                }
            }
            Err(error) => {
                tracing::error!(%error, intent = ?self.intent, "change could not be undone; the next start tries again")
            }
        }
    }
}

/// Settles everything that an earlier daemon left.
pub async fn settle_all(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    for (intent, document) in list_as::<Intent>(&*daemon.store, &keys::intent("change", ""))? {
        tracing::info!(?intent, "settling what an earlier daemon began");
        match settle(daemon, &intent).await {
            Ok(()) => daemon.store.delete(document.key(), Revision::Any)?,
            // One thing that cannot be settled must not keep the daemon from starting.
            Err(error) => tracing::error!(%error, ?intent, "change could not be settled"),
        }
    }
    Ok(())
}

/// Undoes or completes one change. Can be repeated, whatever of it has been done.
async fn settle(daemon: &Arc<Daemon>, intent: &Intent) -> Result<(), ApiError> {
    let there = |key: &str| daemon.store.get(key).map(|document| document.is_some());
    match intent.clone() {
        Intent::PoolCreate { pool } => {
            if !there(&keys::storage_pool(&pool.name))? {
                crate::pools::remove_from_host(daemon, pool).await?;
            }
        }
        Intent::PoolDelete { pool } => {
            if let Some((found, _)) =
                crate::store::get_as::<api::StoragePool>(&*daemon.store, &keys::storage_pool(&pool))?
            {
                crate::pools::remove_from_host(daemon, found).await?;
                daemon.store.delete(&keys::storage_pool(&pool), Revision::Any)?;
            }
        }
        Intent::VolumeCreate { volume } => {
            if !there(&volume.key())? {
                on_pool(daemon, &volume, |pool, id| pool.delete_volume(&id)).await?;
            }
        }
        Intent::VolumeDelete { volume } => {
            on_pool(daemon, &volume, |pool, id| pool.delete_volume(&id)).await?
        }
        Intent::VolumeRename { volume, to } => {
            let new = volume.renamed(&to).id();
            on_pool(daemon, &volume, move |pool, id| {
                if pool.exists(&id) && !pool.exists(&new) {
                    pool.rename(&id, &new.name)
                } else {
                    Ok(())
                }
            })
            .await?;
        }
        Intent::SnapshotCreate { volume, snapshot } => {
            let key = keys::volume_snapshot(&volume.pool, &volume.project, "custom", &volume.name, &snapshot);
            if !there(&key)? {
                delete_snapshot(daemon, &volume, snapshot).await?;
            }
        }
        Intent::SnapshotDelete { volume, snapshot } => delete_snapshot(daemon, &volume, snapshot).await?,
        Intent::SnapshotRename { volume, snapshot, to } => {
            on_pool(daemon, &volume, move |pool, id| {
                let there = if pool.exists(&id) {
                    pool.snapshots(&id)?
                } else {
                    Vec::new()
                };
                if there.contains(&snapshot) && !there.contains(&to) {
                    pool.snapshot_rename(&id, &snapshot, &to)
                } else {
                    Ok(())
                }
            })
            .await?;
        }
        Intent::NetworkCreate { network } => {
            // Networks of all projects are links of one host, so one name is one network.
            let known = daemon.store.list(keys::NETWORKS)?;
            if !known.iter().any(|document| document.name() == network) {
                daemon.networks.remove_bridge(&network).await?;
            }
        }
        Intent::NetworkDelete { network } => daemon.networks.remove_bridge(&network).await?,
        Intent::Image { fingerprint } => crate::image_files::settle(daemon, &fingerprint).await?,
    }
    Ok(())
}

async fn delete_snapshot(daemon: &Arc<Daemon>, volume: &VolumeKey, snapshot: String) -> Result<(), ApiError> {
    on_pool(daemon, volume, move |pool, id| {
        if pool.exists(&id) && pool.snapshots(&id)?.contains(&snapshot) {
            pool.snapshot_delete(&id, &snapshot)
        } else {
            Ok(())
        }
    })
    .await
}

/// Works on a volume's pool in a thread that may block. A pool that is gone has nothing to settle.
async fn on_pool(
    daemon: &Arc<Daemon>,
    volume: &VolumeKey,
    work: impl FnOnce(&storage::Pool, VolumeId) -> storage::Result<()> + Send + 'static,
) -> Result<(), ApiError> {
    if daemon.store.get(&keys::storage_pool(&volume.pool))?.is_none() {
        return Ok(());
    }
    let (pool, id) = (daemon.pools.get(&volume.pool)?, volume.id());
    tokio::task::spawn_blocking(move || work(&pool, id))
        .await?
        .map_err(ApiError::from)
}
