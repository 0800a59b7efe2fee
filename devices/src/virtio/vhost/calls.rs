//! How a back end elsewhere reaches the driver: for each queue a descriptor that it signals when it has used buffers, and
//! one for errors.
//!
//! Where the transport has a descriptor whose signal is the interrupt, the back end gets that one, and no code of ours runs
//! for an interrupt. Otherwise the back end signals a descriptor that the device's worker waits for, and the worker raises
//! the interrupt.

use crate::metrics::Counter;
use crate::virtio::worker::Io;
use serde::Serialize;
use std::io;
use std::os::fd::AsRawFd;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Tokens of the relayed descriptors and of those for errors; a device's other tokens are below.
const TOKEN_RELAY: u32 = 0x1_0000;
const TOKEN_ERROR: u32 = 0x2_0000;

struct Call {
    relay: EventFd,
    error: EventFd,
    direct: Option<EventFd>,
}

/// What came by these descriptors.
#[derive(Debug, Default, Serialize)]
pub struct CallMetrics {
    /// Errors that the back end reported for a queue.
    pub queue_errors: Counter,
    /// Interrupts that took the way through this process.
    pub relayed_interrupts: Counter,
}

/// The descriptors of all queues of a device.
pub(in crate::virtio) struct Calls(Vec<Call>);

fn event() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

impl Calls {
    /// Makes descriptors for this many queues.
    pub(in crate::virtio) fn new(queues: usize) -> io::Result<Self> {
        let call = |_| {
            Ok(Call {
                relay: event()?,
                error: event()?,
                direct: None,
            })
        };
        (0..queues).map(call).collect::<io::Result<_>>().map(Self)
    }

    /// Waits for all descriptors, and finds out where interrupts go. To be called when the worker starts.
    pub(in crate::virtio) fn register(&mut self, io: &Io) -> io::Result<()> {
        for (call, index) in self.0.iter_mut().zip(0..) {
            io.add(call.relay.as_raw_fd(), TOKEN_RELAY + index, EventSet::IN)?;
            io.add(call.error.as_raw_fd(), TOKEN_ERROR + index, EventSet::IN)?;
        }
        self.refresh(io);
        Ok(())
    }

    /// Finds out again where interrupts go.
    pub(in crate::virtio) fn refresh(&mut self, io: &Io) {
        for (call, index) in self.0.iter_mut().zip(0..) {
            call.direct = io.interrupt.queue_eventfd(index);
        }
    }

    /// What the back end shall signal when it has used buffers of a queue.
    pub(in crate::virtio) fn call(&self, queue: usize) -> Option<&EventFd> {
        let call = self.0.get(queue)?;
        Some(call.direct.as_ref().unwrap_or(&call.relay))
    }

    /// What the back end shall signal when it cannot go on with a queue.
    pub(in crate::virtio) fn error(&self, queue: usize) -> Option<&EventFd> {
        self.0.get(queue).map(|call| &call.error)
    }

    /// Takes an event, if it is of one of the descriptors.
    pub(in crate::virtio) fn event(&self, token: u32, io: &Io, metrics: &CallMetrics) {
        // Queues have 16 bits, so the halves of the token are the kind and the queue.
        let (kind, index) = (token & !0xffff, token & 0xffff);
        let Some(call) = self.0.get(index as usize) else {
            return;
        };
        match kind {
            TOKEN_RELAY => {
                // Fails only when it has been read already.
                let _ = call.relay.read();
                io.interrupt.queue(index as u16);
                metrics.relayed_interrupts.increment();
            }
            TOKEN_ERROR => {
                let _ = call.error.read();
                metrics.queue_errors.increment();
                io.interrupt.needs_reset();
            }
            _ => {}
        }
    }
}
