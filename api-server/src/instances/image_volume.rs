//! Volumes of images: each image is unpacked once in a pool, and every instance is a copy of that.
//!
//! An image has up to two volumes under its fingerprint: a directory (`metadata.yaml`, `templates/`, `rootfs/`), which containers are
//! copies of, and a raw disk made of it, which microVMs are copies of.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use storage::{ContentType, Pool, VolumeId, VolumeKind};
use tokio_util::sync::CancellationToken;

use super::manager::blocking;
use crate::operations::OperationContext;
use crate::{ApiError, Daemon};

/// The disk of an image is made this much larger than its content; instances grow their copies to their own size.
const SPARE: u64 = 128 << 20;
/// Block size of ext4: what a file takes at least.
const BLOCK: u64 = 4096;
/// What Incus calls the stage of unpacking.
const STAGE: &str = "create_instance_from_image_unpack";

/// The directory of an image.
pub fn tree_id(fingerprint: &str) -> VolumeId {
    VolumeId::new(VolumeKind::Image, ContentType::Filesystem, fingerprint)
}

/// The disk of an image.
pub fn disk_id(fingerprint: &str) -> VolumeId {
    VolumeId::new(VolumeKind::Image, ContentType::Block, fingerprint)
}

/// Makes sure that a pool has an image's volume of the content that is wanted, and returns it.
pub async fn ensure(
    daemon: &Arc<Daemon>,
    pool: &Arc<Pool>,
    fingerprint: &str,
    content: ContentType,
    progress: Option<&OperationContext>,
) -> Result<VolumeId, ApiError> {
    let tree = tree_id(fingerprint);
    let disk = disk_id(fingerprint);
    let wanted = if content == ContentType::Block {
        disk.clone()
    } else {
        tree.clone()
    };
    let turn = {
        let mut turns = daemon
            .instances
            .image_volumes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(format!("{}/{fingerprint}", pool.name())).or_default())
    };
    let _turn = turn.lock().await;
    if pool.exists(&wanted) {
        return Ok(wanted);
    }
    let (meta, rootfs) = (
        daemon.paths.image(fingerprint),
        daemon.paths.image_rootfs(fingerprint),
    );
    let context = progress.cloned();
    let pool = Arc::clone(pool);
    let made = wanted.clone();
    blocking(move || {
        if !pool.exists(&tree) {
            let cancel = context
                .as_ref()
                .map(OperationContext::cancelled)
                .unwrap_or_default();
            let rootfs = rootfs.exists().then_some(rootfs);
            let fill = &mut |dest: &Path| unpack(&meta, rootfs.as_deref(), dest, context.as_ref(), &cancel);
            pool.create_volume(&tree, None, fill).map_err(ApiError::from)?;
        }
        if made == disk {
            let source = pool.path(&tree).join("rootfs");
            let size = disk_size(&source)?;
            let fill = &mut |dest: &Path| images::make_root_disk(&source, dest, size).map_err(Into::into);
            pool.create_volume(&disk, Some(size), fill)
                .map_err(ApiError::from)?;
        }
        Ok(())
    })
    .await?;
    Ok(wanted)
}

fn unpack(
    meta: &Path,
    rootfs: Option<&Path>,
    dest: &Path,
    context: Option<&OperationContext>,
    cancel: &CancellationToken,
) -> Result<(), storage::BoxError> {
    let started = Instant::now();
    let mut told = None;
    let size = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len());
    let total = size(meta)? + rootfs.map(size).transpose()?.unwrap_or(0);
    let raised = AtomicBool::new(cancel.is_cancelled());
    let mut report = |done: u64| {
        raised.store(cancel.is_cancelled(), Ordering::Relaxed);
        let percent = done
            .saturating_mul(100)
            .checked_div(total)
            .unwrap_or(100)
            .min(100);
        if told != Some(percent)
            && let Some(context) = context
        {
            told = Some(percent);
            let speed = done as f64 / started.elapsed().as_secs_f64().max(1e-6);
            context.progress_percent(STAGE, "Unpacking image", percent, speed as u64);
        }
    };
    images::unpack(meta, rootfs, dest, &mut report, &raised)?;
    if !dest.join("rootfs").is_dir() {
        return Err(
            "this image is a disk with firmware in mind; Virga boots images with a root file system".into(),
        );
    }
    Ok(())
}

/// How large a disk must be to hold a tree: its files in whole blocks, an inode for each, and room to spare.
fn disk_size(root: &Path) -> Result<u64, ApiError> {
    use std::os::unix::fs::MetadataExt;
    let mut content = 0;
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            // ext4 has an inode for each 16 KiB; one that is mostly small files must be larger for that.
            content += metadata.size().next_multiple_of(BLOCK).max(4 * BLOCK);
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok((content + content / 8 + SPARE).next_multiple_of(1 << 20))
}
