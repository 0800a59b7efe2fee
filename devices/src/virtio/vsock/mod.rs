//! The socket device.
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::worker::{Backend, Io};
use serde::{Deserialize, Serialize};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The guest's address, at least 3.
    pub cid: u32,
    /// Where the host listens; guest-initiated connections go to this path with `_<port>` appended.
    pub socket: PathBuf,
}
/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
}
/// The socket device.
pub struct Vsock {}
/// Why a socket device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VsockError {
    /// x
    #[error("x")]
    X(std::io::Error),
}
impl Vsock {
    /// Makes a socket device that listens at `config.socket`.
    pub fn new(_config: Config) -> Result<Self, VsockError> {
        todo!()
    }
    /// The same with a listener that is open already.
    pub fn with_listener(_config: Config, _listener: UnixListener) -> Result<Self, VsockError> {
        todo!()
    }
    /// Makes the device again as it was saved; connections of the time are reset.
    pub fn restore(_state: State, _listener: UnixListener) -> Result<Self, VsockError> {
        todo!()
    }
}
impl Backend for Vsock {
    type State = State;
    fn device_type(&self) -> DeviceType {
        DeviceType::Vsock
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
