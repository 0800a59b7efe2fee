//! The console device.
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::worker::{Backend, Io};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
/// What the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Width of the terminal in characters.
    pub columns: u16,
    /// Height of the terminal in lines.
    pub rows: u16,
}
/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for, with the size as it was last.
    pub config: Config,
}
/// Tells a console that its terminal has another size.
#[derive(Clone)]
pub struct Resizer {}
impl Resizer {
    /// Sets the size and tells the driver.
    pub fn resize(&self, _columns: u16, _rows: u16) {}
}
/// The console device.
pub struct Console {}
impl Console {
    /// Makes a console that reads the guest's input from `input` and writes its output to `output` (pipes, sockets, terminals).
    pub fn new(_config: Config, _input: Option<OwnedFd>, _output: OwnedFd) -> io::Result<Self> {
        todo!()
    }
    /// Makes the device again as it was saved.
    pub fn restore(_state: State, _input: Option<OwnedFd>, _output: OwnedFd) -> io::Result<Self> {
        todo!()
    }
    /// The handle by which the size can be changed while the device is at work.
    pub fn resizer(&self) -> Resizer {
        todo!()
    }
}
impl Backend for Console {
    type State = State;
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
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
