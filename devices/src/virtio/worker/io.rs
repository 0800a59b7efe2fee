//! What a backend has at hand on its thread.

use crate::memory::{Memory, Ram};
use crate::virtio::device::Interrupt;
use crate::virtio::queue::{Chain, Queue};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// What a backend works with while its device is active.
pub struct Io {
    /// The queues of this thread, in order: all of the device, or those of one of its [groups](super::Backend::group).
    pub queues: Vec<Queue>,
    /// Guest memory.
    pub memory: Memory,
    /// The way to the driver.
    pub interrupt: Arc<dyn Interrupt>,
    /// Features that were agreed on.
    pub features: u64,
    pub(super) epoll: Epoll,
    pub(super) stopping: bool,
}

impl Io {
    /// Calls [`Backend::event`](super::Backend::event) with `token` when `fd` is ready for `events`.
    pub fn add(&self, fd: RawFd, token: u32, events: EventSet) -> io::Result<()> {
        self.epoll.ctl(
            ControlOperation::Add,
            fd,
            EpollEvent::new(events, u64::from(token)),
        )
    }

    /// Changes what is waited for.
    pub fn modify(&self, fd: RawFd, token: u32, events: EventSet) -> io::Result<()> {
        self.epoll.ctl(
            ControlOperation::Modify,
            fd,
            EpollEvent::new(events, u64::from(token)),
        )
    }

    /// Waits no longer.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.epoll
            .ctl(ControlOperation::Delete, fd, EpollEvent::default())
    }

    /// Serves a queue request by request: `serve` gets each chain and returns the number of bytes it wrote. After
    /// `budget` requests the device's other events get their turn first, and so they do when the driver takes back what
    /// it has announced.
    pub fn serve(&mut self, queue: usize, budget: usize, mut serve: impl FnMut(&mut Chain, &Ram) -> u32) {
        let ram = self.memory.memory();
        let Some(queue) = self.queues.get_mut(queue) else {
            return;
        };
        let (mut served, mut announced) = (0, false);
        loop {
            queue.disable_notification();
            let before = served;
            while served < budget
                && let Some(mut chain) = queue.pop()
            {
                let len = serve(&mut chain, &ram);
                queue.add_used(chain.head, len);
                served += 1;
            }
            if served >= budget || announced && served == before {
                queue.wake_again();
                break;
            }
            announced = queue.enable_notification();
            if !announced {
                break;
            }
        }
        queue.signal();
    }

    /// Whether the worker is about to stop: nothing is taken from the queues any more.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether driver and device agreed on the feature with this bit number.
    pub fn has_feature(&self, bit: u32) -> bool {
        self.features & (1 << bit) != 0
    }
}
