//! What devices need from the machine they are in, without knowing how it is made. The `vmm` crate implements these
//! traits with irqfd, GSI routing and ioeventfd; tests implement them with plain event descriptors.

use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

/// An edge-triggered interrupt line to the guest's interrupt controller (legacy devices, virtio-mmio).
pub trait InterruptLine: Send + Sync {
    /// Raises the interrupt once.
    fn trigger(&self) -> io::Result<()>;
}

/// Hands out message-signalled interrupts.
pub trait MsiController: Send + Sync {
    /// Reserves one interrupt. It is given back when the vector is dropped.
    fn allocate(&self) -> io::Result<Arc<dyn MsiVector>>;
}

/// One message-signalled interrupt of one device.
pub trait MsiVector: Send + Sync {
    /// Sets the message as the guest programmed it. While `masked`, no interrupt reaches the guest.
    fn set(&self, address: u64, data: u32, masked: bool) -> io::Result<()>;
    /// Sends the message once.
    fn trigger(&self) -> io::Result<()>;
    /// The descriptor whose signal sends the message, where there is one (for back ends in the host's kernel).
    fn eventfd(&self) -> Option<&EventFd>;
}

/// Turns guest writes to an address into signals of an event descriptor, without leaving the host's kernel.
pub trait NotifyRegistrar: Send + Sync {
    /// Signals `fd` when the guest writes to the MMIO `address`: any value, or only the 32-bit value `datamatch`.
    /// Where this fails the write arrives at the device by the bus instead, which is slower but just as correct.
    fn register(&self, address: u64, datamatch: Option<u32>, fd: &EventFd) -> io::Result<()>;
    /// Undoes [`register`](Self::register) with the same arguments.
    fn unregister(&self, address: u64, datamatch: Option<u32>, fd: &EventFd) -> io::Result<()>;
}
