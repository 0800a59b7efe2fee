//! The block device.
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::worker::{Backend, Io};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::sync::Arc;

/// How requests reach the host's kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// io_uring where the host allows it, threads' plain system calls otherwise.
    #[default]
    Auto,
    /// io_uring, or fail.
    Uring,
    /// Plain system calls on the worker's thread.
    Sync,
}

/// What the user asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Up to 20 bytes that the guest sees as the disk's serial number.
    pub serial: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// How requests reach the host's kernel.
    pub engine: Engine,
}
/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
    /// Size of the disk.
    pub size_bytes: u64,
}
/// Why a block device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// x
    #[error("x")]
    X(std::io::Error),
}
/// The block device.
pub struct Block {}
impl Block {
    /// Makes a block device of an open raw file (or block device). It must be open for writing unless `read_only`.
    pub fn new(_config: Config, _disk: File) -> Result<Self, BlockError> {
        todo!()
    }
    /// Makes the device again as it was saved.
    pub fn restore(_state: State, _disk: File) -> Result<Self, BlockError> {
        todo!()
    }
}
impl Backend for Block {
    type State = State;
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }
    fn queue_sizes(&self) -> Vec<u16> {
        todo!()
    }
    fn config(&self) -> Arc<ConfigSpace> {
        todo!()
    }
    fn metrics(&self) -> Arc<dyn Metrics> {
        todo!()
    }
    fn queue_ready(&mut self, _queue: usize, _io: &mut Io) {
        todo!()
    }
    fn save(&self) -> State {
        todo!()
    }
}
