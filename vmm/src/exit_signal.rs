//! The way by which any thread ends the VM: the first report is kept, the control thread is woken.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::exit::ExitReport;
use crate::lock::lock;

/// Shared by everything that may end the VM.
pub struct ExitSignal {
    report: Mutex<Option<ExitReport>>,
    raised: AtomicBool,
    event: EventFd,
}

impl ExitSignal {
    /// A signal that nobody has raised.
    pub fn new() -> io::Result<Arc<Self>> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Arc::new(Self {
            report: Mutex::new(None),
            raised: AtomicBool::new(false),
            event,
        }))
    }

    /// Ends the VM for this reason, unless another one came first.
    pub fn raise(&self, report: ExitReport) {
        lock(&self.report).get_or_insert(report);
        self.raised.store(true, Ordering::SeqCst);
        // Fails only when the counter is full, that is, when it is readable anyway.
        let _ = self.event.write(1);
    }

    /// Whether the VM is to end.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::SeqCst)
    }

    /// The reason, once there is one.
    #[must_use]
    pub fn report(&self) -> Option<ExitReport> {
        lock(&self.report).clone()
    }

    /// Readable once the VM is to end.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}
