//! How a device behind PCI registers interrupts its driver: by the vectors that the driver chose for queues and for
//! configuration changes (virtio 1.3 §4.1.5.1.2), or by the interrupt status where it chose none.

use super::registers::NeedsReset;
use crate::pci::msix::Msix;
use crate::virtio::device::Interrupt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};
use vmm_sys_util::eventfd::EventFd;

/// "No vector" (§4.1.5.1.2).
pub(super) const NO_VECTOR: u16 = 0xffff;

/// Interrupts of a device by MSI-X.
pub(super) struct MsixInterrupt {
    msix: Arc<Msix>,
    pub(super) isr: AtomicU8,
    pub(super) config_vector: AtomicU16,
    pub(super) queue_vectors: Vec<AtomicU16>,
    needs_reset: NeedsReset,
}

impl MsixInterrupt {
    pub(super) fn new(msix: Arc<Msix>, queue_count: usize, needs_reset: NeedsReset) -> Self {
        Self {
            msix,
            isr: AtomicU8::new(0),
            config_vector: AtomicU16::new(NO_VECTOR),
            queue_vectors: (0..queue_count).map(|_| AtomicU16::new(NO_VECTOR)).collect(),
            needs_reset,
        }
    }

    fn raise(&self, cause: u8, vector: &AtomicU16) {
        match vector.load(Ordering::Acquire) {
            // The status is for drivers that use no messages (§4.1.4.5).
            NO_VECTOR => {
                self.isr.fetch_or(cause, Ordering::SeqCst);
            }
            vector => self.msix.trigger(vector),
        }
    }

    pub(super) fn forget_vectors(&self) {
        for vector in self.queue_vectors.iter().chain([&self.config_vector]) {
            vector.store(NO_VECTOR, Ordering::Release);
        }
        self.isr.store(0, Ordering::SeqCst);
    }
}

impl Interrupt for MsixInterrupt {
    fn queue(&self, index: u16) {
        if let Some(vector) = self.queue_vectors.get(usize::from(index)) {
            self.raise(1, vector);
        }
    }

    fn queue_eventfd(&self, index: u16) -> Option<EventFd> {
        let vector = self.queue_vectors.get(usize::from(index))?;
        match vector.load(Ordering::Acquire) {
            NO_VECTOR => None,
            vector => self.msix.eventfd(vector),
        }
    }

    fn config(&self) {
        self.raise(2, &self.config_vector);
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.config();
    }
}
