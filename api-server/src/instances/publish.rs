//! Making an image of an instance or a snapshot.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Map;
use images::{Compression, PackSource, Packed};

use super::manager::blocking;
use super::metadata;
use super::record;
use crate::{ApiError, Daemon};

/// What is to become an image.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Project of the instance.
    pub project: String,
    /// `instance` or `instance/snapshot`.
    pub source: String,
    /// Properties in addition to those the instance has from its own image.
    pub properties: Map,
    /// When the image should no longer be used, in seconds since 1970; 0 is never.
    pub expiry_date: i64,
    /// How to compress; `None` for the default.
    pub compression: Option<Compression>,
}

/// Packs an instance that does not run, or a snapshot, as a unified image into the file `out`.
pub async fn publish(
    daemon: &Arc<Daemon>,
    publication: Publication,
    out: PathBuf,
) -> Result<Packed, ApiError> {
    let Publication {
        project,
        source,
        properties,
        expiry_date,
        compression,
    } = publication;
    let (name, snapshot) = match source.split_once('/') {
        Some((name, snapshot)) => (name.to_owned(), Some(snapshot.to_owned())),
        None => (source, None),
    };
    let lock = daemon
        .instances
        .locks
        .take(&(project.clone(), name.clone()), "publish")?;
    let (record, _) = record::load(&*daemon.store, &project, &name)?;
    if record.is_vm() {
        return Err(ApiError::bad_request(
            "Publishing virtual machines is not supported yet: publish a container",
        ));
    }
    let pool = daemon.pools.get(&record.pool)?;
    let tree = match &snapshot {
        Some(snapshot) => {
            record::load_snapshot(&*daemon.store, &project, &name, snapshot)?;
            pool.snapshot_path(&record.volume(), snapshot)
        }
        None if daemon.instances.running(&project, &name).is_some() => {
            return Err(ApiError::bad_request(
                "The instance is currently running. Stop it first, or publish a snapshot",
            ));
        }
        None => pool.path(&record.volume()),
    };
    let mut described = metadata::read(daemon, &record)?;
    described.architecture.clone_from(&record.architecture);
    described.creation_date = api::Timestamp::now().as_unix();
    described.expiry_date = expiry_date;
    described.properties.extend(properties);
    let packed = blocking(move || pack(&tree, &described, &out, compression)).await;
    drop(lock);
    packed
}

fn pack(
    tree: &Path,
    metadata: &images::Metadata,
    out: &Path,
    compression: Option<Compression>,
) -> Result<Packed, ApiError> {
    let (rootfs, templates) = (tree.join("rootfs"), tree.join("templates"));
    let source = PackSource {
        rootfs: &rootfs,
        metadata,
        templates: templates.is_dir().then_some(templates.as_path()),
    };
    Ok(images::pack(
        &source,
        out,
        compression.unwrap_or(Compression::Gzip),
    )?)
}
