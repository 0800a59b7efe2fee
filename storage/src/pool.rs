//! A pool: the operations on volumes and snapshots, the same for every driver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{BoxError, Result};
use crate::volume::{Resources, VolumeId};

/// What a pool is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolConfig {
    /// The pool's name.
    pub name: String,
    /// `dir` or `btrfs`.
    pub driver: String,
    /// A directory to keep the volumes in, instead of one under the state directory.
    #[serde(default)]
    pub source: Option<PathBuf>,
    /// The remaining keys, as Incus names them.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// An open storage pool. Shared freely between threads.
#[derive(Debug)]
pub struct Pool {}

#[allow(missing_docs, unused_variables)]
impl Pool {
    pub fn create(config: &PoolConfig, state_dir: &Path) -> Result<Self> {
        todo!()
    }
    pub fn open(config: &PoolConfig, state_dir: &Path) -> Result<Self> {
        todo!()
    }
    pub fn destroy(&self) -> Result<()> {
        todo!()
    }
    pub fn name(&self) -> &str {
        todo!()
    }
    pub fn driver(&self) -> &'static str {
        todo!()
    }
    /// The pool's directory.
    pub fn root(&self) -> &Path {
        todo!()
    }
    /// Finishes or undoes what an interrupted daemon left half done. Call once before anything else uses the pool.
    pub fn recover(&self) -> Result<()> {
        todo!()
    }
    pub fn resources(&self) -> Result<Resources> {
        todo!()
    }
    pub fn create_volume(
        &self,
        id: &VolumeId,
        size: Option<u64>,
        fill: &mut dyn FnMut(&Path) -> std::result::Result<(), BoxError>,
    ) -> Result<()> {
        todo!()
    }
    pub fn copy_volume(&self, src: &VolumeId, dst: &VolumeId, size: Option<u64>) -> Result<()> {
        todo!()
    }
    /// As `copy_volume`, from another pool.
    pub fn copy_volume_from(
        &self,
        pool: &Pool,
        src: &VolumeId,
        dst: &VolumeId,
        size: Option<u64>,
    ) -> Result<()> {
        todo!()
    }
    /// Deletes the volume with its snapshots; nothing to delete is no error.
    pub fn delete_volume(&self, id: &VolumeId) -> Result<()> {
        todo!()
    }
    pub fn exists(&self, id: &VolumeId) -> bool {
        todo!()
    }
    pub fn path(&self, id: &VolumeId) -> PathBuf {
        todo!()
    }
    pub fn resize(&self, id: &VolumeId, bytes: u64) -> Result<()> {
        todo!()
    }
    /// Bytes allocated on disk.
    pub fn usage(&self, id: &VolumeId) -> Result<u64> {
        todo!()
    }
    /// A block volume's size, or a file system's quota if one is set.
    pub fn size(&self, id: &VolumeId) -> Result<Option<u64>> {
        todo!()
    }
    pub fn list(&self) -> Result<Vec<VolumeId>> {
        todo!()
    }
    /// Renames the volume with its snapshots.
    pub fn rename(&self, id: &VolumeId, new: &str) -> Result<()> {
        todo!()
    }
    pub fn snapshot_create(&self, id: &VolumeId, snapshot: &str) -> Result<()> {
        todo!()
    }
    pub fn snapshot_delete(&self, id: &VolumeId, snapshot: &str) -> Result<()> {
        todo!()
    }
    pub fn snapshot_restore(&self, id: &VolumeId, snapshot: &str) -> Result<()> {
        todo!()
    }
    pub fn snapshot_rename(&self, id: &VolumeId, snapshot: &str, new: &str) -> Result<()> {
        todo!()
    }
    pub fn snapshots(&self, id: &VolumeId) -> Result<Vec<String>> {
        todo!()
    }
    pub fn snapshot_path(&self, id: &VolumeId, snapshot: &str) -> PathBuf {
        todo!()
    }
    pub fn snapshot_usage(&self, id: &VolumeId, snapshot: &str) -> Result<u64> {
        todo!()
    }
    pub fn copy_from_snapshot(
        &self,
        id: &VolumeId,
        snapshot: &str,
        dst: &VolumeId,
        size: Option<u64>,
    ) -> Result<()> {
        todo!()
    }
    /// Gives `dst` (which exists) a snapshot that equals one of `src`: how a copy takes its history along.
    pub fn copy_snapshot(&self, src: &VolumeId, snapshot: &str, dst: &VolumeId) -> Result<()> {
        todo!()
    }
}
