//! The network device.
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::worker::{Backend, Io};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub mod mac;
pub mod tap;
pub use mac::MacAddress;
pub use tap::Tap;

/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The card's address.
    pub mac: MacAddress,
    /// Largest packet without Ethernet header.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
}
fn default_mtu() -> u16 {
    1500
}
/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for.
    pub config: Config,
}
/// The network device.
pub struct Net {}
/// Why a network device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// x
    #[error("x")]
    X(std::io::Error),
}
impl Net {
    /// Makes a network card on a tap.
    pub fn new(_config: Config, _tap: Tap) -> Result<Self, NetError> {
        todo!()
    }
    /// Makes the device again as it was saved.
    pub fn restore(_state: State, _tap: Tap) -> Result<Self, NetError> {
        todo!()
    }
}
impl Backend for Net {
    type State = State;
    fn device_type(&self) -> DeviceType {
        DeviceType::Net
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
