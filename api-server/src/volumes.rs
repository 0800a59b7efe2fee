//! Custom volumes: documents in the store, directories and disks in pools.

use std::sync::Arc;

use api::{StorageVolume, StorageVolumeSnapshot, Timestamp};

use crate::config_keys::parse_bytes;
use crate::intents::{Intent, VolumeKey};
use crate::store::{Change, Document, Revision, get_as, keys, list_as};
use crate::{ApiError, Daemon, crash};

/// Where a new volume's content comes from.
#[derive(Debug, Clone)]
pub enum Content {
    /// It is empty.
    Empty,
    /// It is a copy of another volume or of one of its snapshots.
    Copy {
        /// The volume.
        source: VolumeKey,
        /// Its snapshot, when only that is copied.
        snapshot: Option<String>,
        /// Whether its snapshots are copied as well.
        with_snapshots: bool,
    },
}

/// A custom volume with its document.
pub fn find(
    daemon: &Daemon,
    pool: &str,
    project: &str,
    name: &str,
) -> Result<(StorageVolume, Document), ApiError> {
    if daemon.store.get(&keys::storage_pool(pool))?.is_none() {
        return Err(ApiError::not_found("Storage pool"));
    }
    get_as(&*daemon.store, &keys::volume(pool, project, "custom", name))?
        .ok_or_else(|| ApiError::not_found("Storage volume"))
}

/// Which volume a document is about.
pub fn key_of(pool: &str, volume: &StorageVolume) -> VolumeKey {
    VolumeKey {
        pool: pool.to_owned(),
        project: volume.project.clone(),
        name: volume.name.clone(),
        block: volume.content_type == "block",
    }
}

/// Its snapshots.
pub fn snapshots(
    daemon: &Daemon,
    volume: &VolumeKey,
) -> Result<Vec<(StorageVolumeSnapshot, Document)>, ApiError> {
    let prefix = keys::volume_snapshots(&volume.pool, &volume.project, "custom", &volume.name);
    let mut found = list_as::<StorageVolumeSnapshot>(&*daemon.store, &prefix)?;
    found.sort_by_key(|(snapshot, _)| snapshot.created_at);
    Ok(found)
}

fn snapshot_key(volume: &VolumeKey, snapshot: &str) -> String {
    keys::volume_snapshot(&volume.pool, &volume.project, "custom", &volume.name, snapshot)
}

/// The size a volume is configured with.
fn size_of(volume: &StorageVolume) -> Result<Option<u64>, ApiError> {
    volume
        .config
        .get("size")
        .map(|size| parse_bytes(size).map_err(ApiError::bad_request))
        .transpose()
}

/// Makes a volume, with its document.
pub async fn create(
    daemon: &Arc<Daemon>,
    pool: &str,
    mut volume: StorageVolume,
    content: Content,
) -> Result<(), ApiError> {
    let open = daemon.pools.get(pool)?;
    let key = key_of(pool, &volume);
    if daemon.store.get(&key.key())?.is_some() {
        return Err(ApiError::conflict("Volume by that name already exists"));
    }
    if key.block && matches!(content, Content::Empty) && size_of(&volume)?.is_none() {
        // Incus' default size of block volumes.
        volume.config.insert("size".to_owned(), "10GiB".to_owned());
    }
    let size = size_of(&volume)?;
    let history = match &content {
        Content::Copy {
            source,
            with_snapshots: true,
            ..
        } => snapshots(daemon, source)?,
        _ => Vec::new(),
    };
    let source_pool = match &content {
        Content::Copy { source, .. } => Some(daemon.pools.get(&source.pool)?),
        Content::Empty => None,
    };
    let begun = Intent::VolumeCreate { volume: key.clone() }.begin(&*daemon.store)?;
    crash::point("volume-create-intent");
    let id = key.id();
    let names: Vec<String> = history
        .iter()
        .map(|(snapshot, _)| snapshot.name.clone())
        .collect();
    let made = tokio::task::spawn_blocking(move || match (content, source_pool) {
        (
            Content::Copy {
                source,
                snapshot: Some(snapshot),
                ..
            },
            Some(from),
        ) => {
            if from.name() != open.name() {
                return Err(storage::Error::InvalidConfig(
                    "copying a snapshot to another pool is not supported: copy its volume".to_owned(),
                ));
            }
            open.copy_from_snapshot(&source.id(), &snapshot, &id, size)
        }
        (Content::Copy { source, .. }, Some(from)) => {
            if from.name() == open.name() {
                open.copy_volume(&source.id(), &id, size)?;
                names
                    .iter()
                    .try_for_each(|name| open.copy_snapshot(&source.id(), name, &id))
            } else if names.is_empty() {
                open.copy_volume_from(&from, &source.id(), &id, size)
            } else {
                Err(storage::Error::InvalidConfig(
                    "copying snapshots to another pool is not supported: use --volume-only".to_owned(),
                ))
            }
        }
        _ => open.create_volume(&id, size, &mut |_| Ok(())),
    })
    .await?;
    if let Err(error) = made {
        // One that was there without a document is not ours to remove.
        if matches!(error, storage::Error::VolumeExists(_)) {
            begun.end(&*daemon.store)?;
        } else {
            begun.settle(daemon).await;
        }
        return Err(error.into());
    }
    crash::point("volume-create-made");
    volume.created_at = Timestamp::now();
    let mut changes = vec![Change::put(key.key(), &volume, Revision::Absent)?, begun.ending()];
    for (snapshot, _) in history {
        changes.push(Change::put(
            snapshot_key(&key, &snapshot.name),
            &snapshot,
            Revision::Any,
        )?);
    }
    if let Err(error) = daemon.store.transact(changes) {
        begun.settle(daemon).await;
        return Err(error.into());
    }
    Ok(())
}

/// Changes a volume's document, and its size when that changes.
pub async fn update(
    daemon: &Arc<Daemon>,
    pool: &str,
    old: &StorageVolume,
    new: &StorageVolume,
    expect: Revision,
) -> Result<(), ApiError> {
    let key = key_of(pool, old);
    if let Some(size) = size_of(new)?
        && size_of(old)? != Some(size)
    {
        let (open, id) = (daemon.pools.get(pool)?, key.id());
        tokio::task::spawn_blocking(move || open.resize(&id, size)).await??;
    }
    crate::store::put_as(&*daemon.store, &key.key(), new, expect)?;
    Ok(())
}

/// Removes a volume with its snapshots.
pub async fn delete(daemon: &Arc<Daemon>, volume: &VolumeKey, expect: Revision) -> Result<(), ApiError> {
    let open = daemon.pools.get(&volume.pool)?;
    let (intent, begun) = Intent::VolumeDelete {
        volume: volume.clone(),
    }
    .prepare()?;
    let mut changes = vec![intent, Change::delete(volume.key(), expect)];
    for (_, document) in snapshots(daemon, volume)? {
        changes.push(Change::delete(document.key(), Revision::Any));
    }
    daemon.store.transact(changes)?;
    crash::point("volume-delete-written");
    let id = volume.id();
    tokio::task::spawn_blocking(move || open.delete_volume(&id)).await??;
    crash::point("volume-delete-removed");
    begun.end(&*daemon.store)
}

/// Gives a volume another name.
pub async fn rename(
    daemon: &Arc<Daemon>,
    pool: &str,
    volume: &StorageVolume,
    name: &str,
    expect: Revision,
) -> Result<(), ApiError> {
    let open = daemon.pools.get(pool)?;
    let old = key_of(pool, volume);
    let new = old.renamed(name);
    if daemon.store.get(&new.key())?.is_some() {
        return Err(ApiError::conflict("Volume by that name already exists"));
    }
    let (intent, begun) = Intent::VolumeRename {
        volume: old.clone(),
        to: name.to_owned(),
    }
    .prepare()?;
    let renamed = StorageVolume {
        name: name.to_owned(),
        ..volume.clone()
    };
    let mut changes = vec![
        intent,
        Change::delete(old.key(), expect),
        Change::put(new.key(), &renamed, Revision::Absent)?,
    ];
    for (snapshot, document) in snapshots(daemon, &old)? {
        changes.push(Change::delete(document.key(), Revision::Any));
        changes.push(Change::put(
            snapshot_key(&new, &snapshot.name),
            &snapshot,
            Revision::Absent,
        )?);
    }
    daemon.store.transact(changes)?;
    crash::point("volume-rename-written");
    let (from, to) = (old.id(), new.id());
    tokio::task::spawn_blocking(move || open.rename(&from, &to.name)).await??;
    crash::point("volume-rename-done");
    begun.end(&*daemon.store)
}

/// Makes a snapshot, with its document.
pub async fn snapshot_create(
    daemon: &Arc<Daemon>,
    pool: &str,
    volume: &StorageVolume,
    name: &str,
    expires_at: Timestamp,
) -> Result<(), ApiError> {
    let open = daemon.pools.get(pool)?;
    let key = key_of(pool, volume);
    if daemon.store.get(&snapshot_key(&key, name))?.is_some() {
        return Err(ApiError::conflict(format!("Snapshot {name:?} already exists")));
    }
    let begun = Intent::SnapshotCreate {
        volume: key.clone(),
        snapshot: name.to_owned(),
    }
    .begin(&*daemon.store)?;
    crash::point("volume-snapshot-intent");
    let (id, snapshot) = (key.id(), name.to_owned());
    if let Err(error) = tokio::task::spawn_blocking(move || open.snapshot_create(&id, &snapshot)).await? {
        if matches!(error, storage::Error::SnapshotExists { .. }) {
            begun.end(&*daemon.store)?;
        } else {
            begun.settle(daemon).await;
        }
        return Err(error.into());
    }
    crash::point("volume-snapshot-made");
    let document = StorageVolumeSnapshot {
        description: volume.description.clone(),
        expires_at,
        name: name.to_owned(),
        config: volume.config.clone(),
        content_type: volume.content_type.clone(),
        created_at: Timestamp::now(),
    };
    let change = Change::put(snapshot_key(&key, name), &document, Revision::Absent)?;
    if let Err(error) = daemon.store.transact(vec![change, begun.ending()]) {
        begun.settle(daemon).await;
        return Err(error.into());
    }
    Ok(())
}

/// Removes a snapshot.
pub async fn snapshot_delete(daemon: &Arc<Daemon>, volume: &VolumeKey, name: &str) -> Result<(), ApiError> {
    let open = daemon.pools.get(&volume.pool)?;
    let (intent, begun) = Intent::SnapshotDelete {
        volume: volume.clone(),
        snapshot: name.to_owned(),
    }
    .prepare()?;
    daemon.store.transact(vec![
        intent,
        Change::delete(snapshot_key(volume, name), Revision::Any),
    ])?;
    crash::point("volume-snapshot-delete-written");
    let (id, snapshot) = (volume.id(), name.to_owned());
    tokio::task::spawn_blocking(move || open.snapshot_delete(&id, &snapshot)).await??;
    begun.end(&*daemon.store)
}

/// Gives a snapshot another name.
pub async fn snapshot_rename(
    daemon: &Arc<Daemon>,
    volume: &VolumeKey,
    snapshot: &StorageVolumeSnapshot,
    name: &str,
) -> Result<(), ApiError> {
    let open = daemon.pools.get(&volume.pool)?;
    if daemon.store.get(&snapshot_key(volume, name))?.is_some() {
        return Err(ApiError::conflict(format!("Snapshot {name:?} already exists")));
    }
    let old = snapshot.name.clone();
    let intent = Intent::SnapshotRename {
        volume: volume.clone(),
        snapshot: old.clone(),
        to: name.to_owned(),
    };
    let (intent, begun) = intent.prepare()?;
    let renamed = StorageVolumeSnapshot {
        name: name.to_owned(),
        ..snapshot.clone()
    };
    daemon.store.transact(vec![
        intent,
        Change::delete(snapshot_key(volume, &old), Revision::Any),
        Change::put(snapshot_key(volume, name), &renamed, Revision::Absent)?,
    ])?;
    crash::point("volume-snapshot-rename-written");
    let (id, name) = (volume.id(), name.to_owned());
    tokio::task::spawn_blocking(move || open.snapshot_rename(&id, &old, &name)).await??;
    begun.end(&*daemon.store)
}

/// Makes a volume as a snapshot is. The storage room completes it after a crash.
pub async fn restore(daemon: &Arc<Daemon>, volume: &VolumeKey, snapshot: &str) -> Result<(), ApiError> {
    if daemon.store.get(&snapshot_key(volume, snapshot))?.is_none() {
        return Err(ApiError::not_found("Storage volume snapshot"));
    }
    let (open, id, snapshot) = (daemon.pools.get(&volume.pool)?, volume.id(), snapshot.to_owned());
    Ok(tokio::task::spawn_blocking(move || open.snapshot_restore(&id, &snapshot)).await??)
}
