//! Transports: how a driver finds, configures and drives a virtio device (virtio 1.3 §4). A transport carries any
//! [`VirtioDevice`](super::device::VirtioDevice); what the two have in common is in [`registers`].

pub mod mmio;
pub mod pci;
mod pci_interrupt;
pub mod registers;
pub mod vhost_user;

use super::device::DeviceError;
use super::worker::ThreadHook;
use crate::interrupt::NotifyRegistrar;
use crate::memory::Memory;
use std::io;
use std::sync::Arc;

/// What each transport needs of the machine, apart from interrupts.
#[derive(Clone)]
pub struct Machine {
    /// Guest memory.
    pub memory: Memory,
    /// Signals queue notifications without an exit to this process.
    pub notify: Arc<dyn NotifyRegistrar>,
    /// Called first thing in each worker thread.
    pub thread_hook: ThreadHook,
}

/// Why a transport could not be made or restored.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// An interrupt or event descriptor could not be had.
    #[error("cannot get {what} for a virtio transport")]
    Resource {
        /// What was missing.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A saved state does not fit the device.
    #[error("the saved state does not fit the device: {0}")]
    State(String),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

#[cfg(test)]
mod behaviour_tests;
