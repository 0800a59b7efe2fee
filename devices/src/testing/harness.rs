//! A device with its driver, without a transport between them.

use super::{DriverQueue, Guest, Part, TestInterrupt};
use crate::virtio::device::{Activation, VirtioDevice};
use crate::virtio::queue::Queue;
use crate::virtio::worker::{Backend, Virtio, no_hook};
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// A device at work with its driver.
pub struct Harness {
    /// Guest memory.
    pub guest: Guest,
    /// The device.
    pub device: Box<dyn VirtioDevice>,
    /// The driver's end of its queues.
    pub queues: Vec<DriverQueue>,
    /// Its interrupts.
    pub interrupt: Arc<TestInterrupt>,
}

#[allow(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panic")]
impl Harness {
    /// Activates a device as a driver that accepts these features.
    pub fn new<B: Backend>(backend: B, features: u64) -> Self {
        Self::with_device(Box::new(Virtio::new(backend)), features)
    }

    /// The same with a device that exists already.
    pub fn with_device(device: Box<dyn VirtioDevice>, features: u64) -> Self {
        Self::with_guest(Guest::new(), device, features)
    }

    /// The same in memory that exists already.
    pub fn with_guest(guest: Guest, device: Box<dyn VirtioDevice>, features: u64) -> Self {
        let mut harness = Self {
            guest,
            device,
            queues: Vec::new(),
            interrupt: Arc::default(),
        };
        harness.activate(features);
        harness
    }

    /// Activates the device with fresh queues, as after a reset.
    pub fn activate(&mut self, features: u64) {
        self.activate_some(features, |_| true);
    }

    /// The same as a driver that sets up only some of the queues.
    pub fn activate_some(&mut self, features: u64, wanted: impl Fn(u16) -> bool) {
        self.interrupt = Arc::default();
        self.queues.clear();
        let mut queues = Vec::new();
        for (&size, index) in self.device.queue_sizes().iter().zip(0..) {
            let notify = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).expect("an event descriptor");
            let clone = notify.try_clone().expect("an event descriptor");
            let mut driver = DriverQueue::with_features(&self.guest, size, features, clone);
            driver.state.ready = wanted(index);
            let interrupt = self.interrupt.clone();
            let memory = self.guest.memory();
            queues.push(
                Queue::new(index, size, &driver.state, features, memory, interrupt, notify).expect("a queue"),
            );
            self.queues.push(driver);
        }
        let activation = Activation {
            memory: self.guest.memory(),
            queues,
            interrupt: self.interrupt.clone(),
            features,
            thread_hook: no_hook(),
        };
        self.device.activate(activation).expect("activate the device");
    }

    /// Sends one request and waits for its end: the number of bytes, and what was written to it.
    pub fn request(&mut self, queue: usize, parts: &[Part]) -> (u32, Vec<u8>) {
        let head = self.queues[queue].add(parts);
        self.queues[queue].kick();
        let (used, len, bytes) = self.next_used(queue).expect("the device answers in time");
        assert_eq!(used, head);
        (len, bytes)
    }

    /// Waits for the next used request.
    pub fn next_used(&mut self, queue: usize) -> Option<(u16, u32, Vec<u8>)> {
        let mut used = None;
        let driver = &mut self.queues[queue];
        self.interrupt.wait(|| {
            used = driver.poll();
            used.is_some()
        });
        used
    }
}
