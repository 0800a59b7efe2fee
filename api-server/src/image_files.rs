//! Image files: how they get into place and how they go.
//!
//! A file lies in `images/` under its fingerprint exactly if some project has the image. Whatever comes in is first a
//! temporary file below `images/.uploads`, which is emptied at each start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::{Image, ImageAlias, ImageAliasesEntry, Timestamp};
use images::ImageInfo;
use storage::VolumeKind;
use tempfile::TempPath;

use crate::intents::Intent;
use crate::store::{Change, Document, Revision, Store, get_as, keys, list_as};
use crate::{ApiError, Daemon, crash};

/// Files of an image that is not in place yet. Dropping it removes them.
#[derive(Debug)]
pub struct Incoming {
    /// All of a unified image, the metadata of a split one.
    pub meta: TempPath,
    /// The root file system of a split image.
    pub rootfs: Option<TempPath>,
}

/// What the client says about an image.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// The fingerprint it must have.
    pub fingerprint: String,
    /// The name of its file.
    pub filename: String,
    /// Whether anybody may fetch it.
    pub public: bool,
    /// Properties, over those it brings itself.
    pub properties: api::Map,
    /// When it is removed by itself; never for what it says itself.
    pub expires_at: Timestamp,
    /// Profiles for instances of it.
    pub profiles: Option<Vec<String>>,
    /// Aliases for it.
    pub aliases: Vec<ImageAlias>,
}

/// A new temporary file for an upload.
pub fn new_upload(daemon: &Daemon) -> Result<(tokio::fs::File, TempPath), ApiError> {
    let file = tempfile::NamedTempFile::new_in(daemon.paths.uploads())?;
    let (file, path) = file.into_parts();
    Ok((tokio::fs::File::from_std(file), path))
}

/// Removes uploads that an earlier daemon did not finish.
pub fn empty_uploads(daemon: &Daemon) -> Result<(), ApiError> {
    for entry in std::fs::read_dir(daemon.paths.uploads())? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(())
}

/// Looks into an incoming image, puts it into place and writes its documents.
pub async fn import(
    daemon: &Arc<Daemon>,
    project: &str,
    incoming: Incoming,
    wishes: Wishes,
) -> Result<Image, ApiError> {
    let (incoming, info) = tokio::task::spawn_blocking(move || {
        let info = match &incoming.rootfs {
            None => images::inspect_unified(&incoming.meta),
            Some(rootfs) => images::inspect_split(&incoming.meta, rootfs),
        }?;
        sync_file(&incoming.meta)?;
        incoming.rootfs.as_deref().map_or(Ok(()), sync_file)?;
        Ok::<_, ApiError>((incoming, info))
    })
    .await??;
    if !wishes.fingerprint.is_empty() && wishes.fingerprint != info.fingerprint {
        return Err(ApiError::bad_request(format!(
            "Fingerprints don't match, got {} expected {}",
            info.fingerprint, wishes.fingerprint
        )));
    }
    let image = describe(project, &info, &wishes);
    let key = keys::image(project, &image.fingerprint);
    let _changing = daemon.image_changes.lock().await;
    if daemon.store.get(&key)?.is_some() {
        return Err(ApiError::conflict("Image with same fingerprint already exists"));
    }
    let mut changes = vec![Change::put(key, &image, Revision::Absent)?];
    for alias in &wishes.aliases {
        changes.push(new_alias(&*daemon.store, project, alias, &image)?);
    }
    let begun = Intent::Image {
        fingerprint: image.fingerprint.clone(),
    }
    .begin(&*daemon.store)?;
    crash::point("image-import-intent");
    let (meta, rootfs) = (
        daemon.paths.image(&image.fingerprint),
        daemon.paths.image_rootfs(&image.fingerprint),
    );
    let directory = daemon.paths.images();
    let placed = tokio::task::spawn_blocking(move || place(incoming, &meta, &rootfs, &directory)).await?;
    crash::point("image-import-placed");
    changes.push(begun.ending());
    if let Err(error) = placed
        .map_err(ApiError::from)
        .and_then(|()| Ok(daemon.store.transact(changes)?))
    {
        begun.settle(daemon).await;
        return Err(error);
    }
    Ok(image)
}

fn sync_file(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path)?.sync_all()
}

fn place(incoming: Incoming, meta: &Path, rootfs: &Path, directory: &Path) -> std::io::Result<()> {
    // Another project may have the same image; its files are the same, too.
    if let Some(file) = incoming.rootfs {
        file.persist(rootfs)?;
    }
    incoming.meta.persist(meta)?;
    std::fs::File::open(directory)?.sync_all()
}

fn describe(project: &str, info: &ImageInfo, wishes: &Wishes) -> Image {
    let mut properties = info.properties.clone();
    properties.extend(wishes.properties.clone());
    let expires_at = if !wishes.expires_at.is_never() {
        wishes.expires_at
    } else if info.expiry_date > 0 {
        Timestamp::from_unix(info.expiry_date)
    } else {
        Timestamp::never()
    };
    Image {
        properties,
        public: wishes.public,
        expires_at,
        profiles: wishes
            .profiles
            .clone()
            .unwrap_or_else(|| vec!["default".to_owned()]),
        architecture: info.architecture.clone(),
        filename: wishes.filename.clone(),
        fingerprint: info.fingerprint.clone(),
        size: info.size,
        kind: info.kind.as_str().to_owned(),
        created_at: Timestamp::from_unix(info.creation_date),
        uploaded_at: Timestamp::now(),
        project: project.to_owned(),
        ..Image::default()
    }
}

/// The change that gives an image an alias.
pub fn new_alias(
    store: &dyn Store,
    project: &str,
    alias: &ImageAlias,
    image: &Image,
) -> Result<Change, ApiError> {
    crate::names::check_alias_name(&alias.name)?;
    let key = keys::alias(project, &alias.name);
    if store.get(&key)?.is_some() {
        return Err(ApiError::conflict(format!(
            "Alias {:?} already exists",
            alias.name
        )));
    }
    let entry = ImageAliasesEntry {
        description: alias.description.clone(),
        target: image.fingerprint.clone(),
        name: alias.name.clone(),
        kind: image.kind.clone(),
    };
    Ok(Change::put(key, &entry, Revision::Absent)?)
}

/// The image whose fingerprint begins like this.
pub fn find(store: &dyn Store, project: &str, start: &str) -> Result<(Image, Document), ApiError> {
    if let Some(found) = get_as(store, &keys::image(project, start))? {
        return Ok(found);
    }
    if start.is_empty() || start.contains('/') {
        return Err(ApiError::not_found("Image"));
    }
    let mut found = list_as(store, &keys::image(project, start))?.into_iter();
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(ApiError::bad_request(
            "Partial fingerprint matches more than one image",
        )),
        _ => Err(ApiError::not_found("Image")),
    }
}

/// Removes an image from a project, with its aliases, and its files when no other project has it.
pub async fn delete(daemon: &Arc<Daemon>, image: &Image, expect: Revision) -> Result<(), ApiError> {
    let _changing = daemon.image_changes.lock().await;
    let (intent, begun) = Intent::Image {
        fingerprint: image.fingerprint.clone(),
    }
    .prepare()?;
    let mut changes = vec![
        intent,
        Change::delete(keys::image(&image.project, &image.fingerprint), expect),
    ];
    for (alias, document) in list_as::<ImageAliasesEntry>(&*daemon.store, &keys::aliases(&image.project))? {
        if alias.target == image.fingerprint {
            changes.push(Change::delete(document.key(), Revision::Any));
        }
    }
    daemon.store.transact(changes)?;
    crash::point("image-delete-written");
    settle(daemon, &image.fingerprint).await?;
    crash::point("image-delete-removed");
    begun.end(&*daemon.store)
}

/// Removes the files of an image and its unpacked copies in pools, unless a project has it.
pub(crate) async fn settle(daemon: &Arc<Daemon>, fingerprint: &str) -> Result<(), ApiError> {
    if daemon
        .store
        .list(keys::IMAGES)?
        .iter()
        .any(|document| document.name() == fingerprint)
    {
        return Ok(());
    }
    let files: [PathBuf; 2] = [
        daemon.paths.image(fingerprint),
        daemon.paths.image_rootfs(fingerprint),
    ];
    let pools = daemon.pools.all();
    let fingerprint = fingerprint.to_owned();
    tokio::task::spawn_blocking(move || {
        for file in files {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        for (_, pool) in pools {
            for volume in pool.list()? {
                if volume.kind == VolumeKind::Image && volume.name == fingerprint {
                    pool.delete_volume(&volume)?;
                }
            }
        }
        Ok(())
    })
    .await?
}
