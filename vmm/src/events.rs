//! Events that the guest hears of by ACPI: buttons, and parts of the machine that come and go.
//!
//! The generic event device (ACPI 6.5 §5.6.9) has one interrupt. Its method reads the selector register, which tells what
//! has happened since the last read, a bit for each [`Event`]; see [`crate::arch::acpi`] for the guest's end.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use devices::bus::BusDevice;
use devices::interrupt::InterruptLine;

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// The power button was pressed.
    PowerButton = 1 << 0,
    /// The sleep button was pressed.
    SleepButton = 1 << 1,
    /// PCI devices came, or are to go.
    Slots = 1 << 2,
    /// Processors came, or are to go.
    Processors = 1 << 3,
    /// The VM generation id has changed.
    Generation = 1 << 4,
}

/// What has happened and was not read yet.
pub struct Events {
    pending: AtomicU8,
    line: Arc<dyn InterruptLine>,
}

impl Events {
    /// Events that raise this interrupt.
    #[must_use]
    pub fn new(line: Arc<dyn InterruptLine>) -> Arc<Self> {
        Arc::new(Self {
            pending: AtomicU8::new(0),
            line,
        })
    }

    /// Tells the guest.
    pub fn raise(&self, event: Event) -> io::Result<()> {
        self.pending.fetch_or(event as u8, Ordering::SeqCst);
        self.line.trigger()
    }

    /// The selector register.
    #[must_use]
    pub fn selector(self: &Arc<Self>) -> Selector {
        Selector(self.clone())
    }
}

/// The register at [`SELECTOR`](crate::arch::acpi::SELECTOR).
pub struct Selector(Arc<Events>);

impl BusDevice for Selector {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let [byte] = data {
            *byte = self.0.pending.swap(0, Ordering::SeqCst);
        }
    }

    fn write(&mut self, _offset: u64, _data: &[u8]) {}
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
