//! The line between transports and devices: a transport drives any [`VirtioDevice`], a device is activated with an
//! [`Activation`] and reaches its driver only through what is in there.
//!
//! Life of a device: made, then any number of times *activated* by the driver and *reset*; between activation and
//! reset it may be *paused* (its worker has stopped and nothing is in flight, so it can be saved) and *resumed*. A disk
//! whose host file hangs, or a back end that does not answer, makes a reset last; nobody waits for that.

use super::config_space::ConfigSpace;
use super::queue::{self, Queue, QueueState};
use super::update::Pending;
use super::worker::ThreadHook;
use crate::memory::Memory;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

/// Virtio device ids (virtio 1.3 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u16)]
pub enum DeviceType {
    /// Network card (§5.1).
    Net = 1,
    /// Block device (§5.2).
    Block = 2,
    /// Console (§5.3).
    Console = 3,
    /// Entropy device (§5.4).
    Rng = 4,
    /// Memory balloon (§5.5).
    Balloon = 5,
    /// Socket device (§5.10).
    Vsock = 19,
    /// Memory device (§5.15).
    Mem = 24,
    /// File system (§5.11).
    FileSystem = 26,
    /// Persistent memory (§5.19).
    Pmem = 27,
}

/// How a device tells its driver that something happened. Transports implement it.
pub trait Interrupt: Send + Sync {
    /// The device has used buffers of the queue with this index.
    fn queue(&self, index: u16);
    /// A descriptor whose signal is an interrupt for that queue, for back ends in the host's kernel or in other processes;
    /// nothing if code of ours has to run for one. Holds until [`VirtioDevice::refresh`] says otherwise.
    fn queue_eventfd(&self, _index: u16) -> Option<EventFd> {
        None
    }
    /// The device's configuration space has changed.
    fn config(&self);
    /// The device met something it cannot recover from without the driver (§2.1.2, DEVICE_NEEDS_RESET).
    fn needs_reset(&self);
}

/// Everything a device gets when its driver is ready.
pub struct Activation {
    /// Guest memory.
    pub memory: Memory,
    /// All queues of the device, in order; those the driver did not set up are never ready.
    pub queues: Vec<Queue>,
    /// The way back to the driver.
    pub interrupt: Arc<dyn Interrupt>,
    /// The features that device and driver agreed on.
    pub features: u64,
    /// Called first thing in each thread the device starts.
    pub thread_hook: ThreadHook,
}

/// Why a device could not do what its transport asked.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The worker could not be started.
    #[error("cannot start the worker of the {device:?} device")]
    Start {
        /// Which kind of device.
        device: DeviceType,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The operation does not fit the device's phase.
    #[error("cannot {operation} the {device:?} device while it is {phase}")]
    Phase {
        /// Which kind of device.
        device: DeviceType,
        /// What was asked.
        operation: &'static str,
        /// What the device was doing.
        phase: &'static str,
    },
    /// What the device has left to others, who have not finished it.
    #[error(
        "the {device:?} device waits for its disk, network or back end, and stopped waiting after {patience:?}; try again"
    )]
    Busy {
        /// Which kind of device.
        device: DeviceType,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The device's state could not be written as JSON.
    #[error("cannot encode the state of the {device:?} device")]
    Encode {
        /// Which kind of device.
        device: DeviceType,
        /// What the encoder said.
        #[source]
        source: serde_json::Error,
    },
}

/// How far a reset has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// Nothing of the device touches guest memory any more.
    Done,
    /// The host's kernel or a back end still has requests, which may touch guest memory.
    Pending,
}

/// A virtio device as its transport sees it.
pub trait VirtioDevice: Send {
    /// The device's id.
    fn device_type(&self) -> DeviceType;
    /// Features special to the device; the transport adds the general ones (§6).
    fn features(&self) -> u64;
    /// Features of the rings that whoever serves the queues knows.
    fn ring_features(&self) -> u64 {
        queue::RING_FEATURES
    }
    /// The greatest size of each queue, each a power of two.
    fn queue_sizes(&self) -> &[u16];
    /// The device-specific configuration space.
    fn config(&self) -> &ConfigSpace;
    /// The driver writes to the configuration space.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}
    /// Starts work: the driver is ready.
    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError>;
    /// Stops work and forgets the driver, in any phase. What somebody else has to finish first is only waited for a moment: if
    /// the reset is pending then, the device does nothing any more, and calling this again, which waits for nothing, finds
    /// out whether it is done.
    fn reset(&mut self) -> Reset;
    /// Stops work but remembers the driver. Does nothing unless the device is active. A device that does not finish its requests
    /// in time says that it is busy and goes on working.
    fn pause(&mut self) -> Result<(), DeviceError>;
    /// Goes on after [`pause`](Self::pause). Does nothing unless the device is paused.
    fn resume(&mut self) -> Result<(), DeviceError>;
    /// What the activation gave has changed: the map of guest memory, or the descriptor of a queue's interrupts. Only
    /// devices whose queues are served elsewhere have to be told; whoever works on a queue sees the change by itself.
    fn refresh(&mut self) {}
    /// Changes something while the guest runs, in any phase; the document is of the device's own type.
    fn update(&mut self, update: serde_json::Value) -> Pending;
    /// What the device needs to be made again, as JSON of its own `State` type. The device must not be running.
    fn save(&self) -> Result<serde_json::Value, DeviceError>;
    /// Where the queues stand; empty unless the device is paused.
    fn queue_states(&self) -> Vec<QueueState>;
    /// The device's counters.
    fn metrics(&self) -> serde_json::Value;
}
