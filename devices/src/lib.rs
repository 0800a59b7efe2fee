//! Device models of a virtual machine: virtio devices with their PCI and MMIO transports, a PCI host bridge, and
//! the few legacy devices a PC guest still looks for.
//!
//! This crate knows nothing of KVM. Whoever runs the virtual CPUs calls [`bus::Bus`] when the guest touches an
//! address, and provides the traits in [`interrupt`] so that devices can reach the guest. Three things are kept
//! apart, so that each fits on a page: a *device* (what is special to it, for example [`virtio::rng`]), a *queue*
//! ([`virtio::queue`]) and a *worker* ([`virtio::worker`]); a *transport* ([`virtio::transport`]) carries any device.
//!
//! The guest is hostile: every length, index and address it gives is checked where it enters, memory and threads
//! are bounded by the configuration and not by the guest, and nothing it does makes this code print without bound.

pub mod bus;
pub mod discard;
pub mod hotplug;
pub mod interrupt;
pub mod legacy;
pub mod memory;
pub mod metrics;
pub mod pci;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod virtio;
