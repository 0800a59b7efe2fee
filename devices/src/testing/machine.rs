//! What the machine does for devices, without KVM: interrupts are counted, notifications noted.

use super::{Guest, PATIENCE};
use crate::interrupt::{InterruptLine, MsiController, MsiVector, NotifyRegistrar};
use crate::virtio::device::Interrupt;
use crate::virtio::transport::Machine;
use crate::virtio::worker::no_hook;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Counts interrupts and wakes who waits for them.
#[derive(Default)]
pub struct TestInterrupt {
    count: Mutex<u64>,
    changed: Condvar,
    config: AtomicU64,
    needs_reset: AtomicBool,
    direct: Mutex<Option<EventFd>>,
}

impl TestInterrupt {
    /// Lets queues be interrupted by this descriptor, without a call.
    pub fn set_direct(&self, event: Option<EventFd>) {
        *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = event;
    }

    fn raise(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Interrupts so far.
    pub fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Configuration changes so far.
    pub fn config_changes(&self) -> u64 {
        self.config.load(Ordering::Acquire)
    }

    /// Whether the device has asked for a reset.
    pub fn asked_for_reset(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    /// Waits until `done` holds, looking again at each interrupt and now and then. Returns whether it does.
    pub fn wait(&self, mut done: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + PATIENCE;
        // Nothing is locked during `done`, so an interrupt may come in between; then the short wait is for nothing.
        while !done() {
            if Instant::now() > end {
                return false;
            }
            let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.changed.wait_timeout(count, Duration::from_millis(2)));
        }
        true
    }
}

impl Interrupt for TestInterrupt {
    fn queue(&self, _index: u16) {
        self.raise();
    }

    fn queue_eventfd(&self, _index: u16) -> Option<EventFd> {
        let direct = self.direct.lock().unwrap_or_else(PoisonError::into_inner);
        direct.as_ref()?.try_clone().ok()
    }

    fn config(&self) {
        self.config.fetch_add(1, Ordering::AcqRel);
        self.raise();
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.raise();
    }
}

impl InterruptLine for TestInterrupt {
    fn trigger(&self) -> io::Result<()> {
        self.raise();
        Ok(())
    }
}

/// A machine without KVM: no notification is registered, interrupts are counted.
pub fn machine(guest: &Guest) -> Machine {
    Machine {
        memory: guest.memory(),
        notify: Arc::new(Notifications::default()),
        thread_hook: no_hook(),
    }
}

/// Remembers where notifications are registered.
#[derive(Default)]
pub struct Notifications(Mutex<Vec<(u64, Option<u32>)>>);

impl Notifications {
    /// What is registered at present.
    pub fn registered(&self) -> Vec<(u64, Option<u32>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl NotifyRegistrar for Notifications {
    fn register(&self, address: u64, datamatch: Option<u32>, _fd: &EventFd) -> io::Result<()> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((address, datamatch));
        Ok(())
    }

    fn unregister(&self, address: u64, datamatch: Option<u32>, _fd: &EventFd) -> io::Result<()> {
        let mut registered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registered.retain(|entry| *entry != (address, datamatch));
        Ok(())
    }
}

/// Hands out vectors that remember their messages and count their interrupts.
#[derive(Default)]
pub struct TestMsi {
    /// The vectors in order of allocation.
    pub vectors: Mutex<Vec<Arc<TestVector>>>,
}

impl TestMsi {
    /// One of the vectors.
    pub fn vector(&self, index: usize) -> Option<Arc<TestVector>> {
        self.vectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(index)
            .cloned()
    }
}

impl MsiController for TestMsi {
    fn allocate(&self) -> io::Result<Arc<dyn MsiVector>> {
        let vector = Arc::<TestVector>::default();
        self.vectors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(vector.clone());
        Ok(vector)
    }
}

/// A vector.
pub struct TestVector {
    message: Mutex<Option<(u64, u32, bool)>>,
    interrupt: TestInterrupt,
    event: EventFd,
}

#[allow(clippy::expect_used, reason = "tests fail by panic")]
impl Default for TestVector {
    fn default() -> Self {
        Self {
            message: Mutex::default(),
            interrupt: TestInterrupt::default(),
            event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).expect("an event descriptor"),
        }
    }
}

impl TestVector {
    /// Address, data and mask as they were set last.
    pub fn message(&self) -> Option<(u64, u32, bool)> {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interrupts.
    pub fn interrupt(&self) -> &TestInterrupt {
        &self.interrupt
    }
}

impl MsiVector for TestVector {
    fn set(&self, address: u64, data: u32, masked: bool) -> io::Result<()> {
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = Some((address, data, masked));
        Ok(())
    }

    fn trigger(&self) -> io::Result<()> {
        self.interrupt.raise();
        Ok(())
    }

    fn eventfd(&self) -> Option<&EventFd> {
        Some(&self.event)
    }
}
