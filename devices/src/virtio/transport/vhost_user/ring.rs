//! One ring of a front end: how far it is set up, and the descriptors by which it notifies and is notified.

use crate::virtio::device::Interrupt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::sync::{Mutex, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// Where a ring lies in the front end's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) descriptor_table: u64,
    pub(super) available_ring: u64,
    pub(super) used_ring: u64,
}

/// A ring as the front end has set it up.
pub(super) struct Ring {
    pub(super) max_size: u16,
    pub(super) size: u16,
    pub(super) addresses: Option<Addresses>,
    pub(super) next_available: u16,
    pub(super) kick: Option<EventFd>,
    pub(super) enabled: bool,
}

impl Ring {
    pub(super) fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: max_size,
            addresses: None,
            next_available: 0,
            kick: None,
            enabled: false,
        }
    }

    /// Whether the device shall serve the ring: it is started by its kick descriptor and enabled by a message.
    pub(super) fn runs(&self) -> bool {
        self.enabled && self.kick.is_some() && self.addresses.is_some()
    }
}

/// Takes over an event descriptor of the front end. It never blocks, whatever the front end does with its end.
pub(super) fn event(file: File) -> io::Result<EventFd> {
    let on: libc::c_int = 1;
    // SAFETY: FIONBIO reads one int.
    if unsafe { libc::ioctl(file.as_raw_fd(), libc::FIONBIO, &raw const on) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open and has no other owner once the file has given it up.
    Ok(unsafe { EventFd::from_raw_fd(file.into_raw_fd()) })
}

/// The descriptors by which the device reaches the front end; they may be exchanged while it works.
#[derive(Default)]
pub(super) struct Calls {
    /// Used buffers, one for each ring.
    pub(super) used: Vec<Slot>,
    /// Errors, one for each ring.
    pub(super) errors: Vec<Slot>,
}

/// A descriptor or none.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<EventFd>>);

impl Slot {
    pub(super) fn set(&self, event: Option<EventFd>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = event;
    }

    fn signal(&self) {
        if let Some(event) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // Fails only when the counter is full, and then it is signalled already.
            let _ = event.write(1);
        }
    }
}

impl Calls {
    pub(super) fn new(rings: usize) -> Self {
        let slots = || (0..rings).map(|_| Slot::default()).collect();
        Self {
            used: slots(),
            errors: slots(),
        }
    }
}

impl Interrupt for Calls {
    fn queue(&self, index: u16) {
        if let Some(slot) = self.used.get(usize::from(index)) {
            slot.signal();
        }
    }

    /// The protocol has a message for this, but it travels on a channel whose other uses we do not offer.
    fn config(&self) {}

    fn needs_reset(&self) {
        self.errors.iter().for_each(Slot::signal);
    }
}
