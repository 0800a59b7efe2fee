//! The device's side of a virtqueue (virtio 1.3 §2.6), split or packed, with EVENT_IDX and indirect descriptors.
//!
//! A [`Queue`] belongs to one worker. It hands out [`Chain`]s whose shape has been checked, and takes them back as
//! used, in any order. The rings lie in memory that a hostile driver changes at will: whatever does not fit breaks the
//! queue, which tells the driver once that the device needs a reset, and from then on the queue is empty.

mod chain;
mod packed;
mod record;
mod split;

pub use chain::{Chain, MAX_CHAIN_LEN};
pub use record::Record;

use super::device::Interrupt;
use crate::memory::{Memory, Ram};
use packed::Packed;
use serde::{Deserialize, Serialize};
use split::Split;
use std::sync::Arc;
use virtio_bindings::virtio_config::VIRTIO_F_RING_PACKED;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vm_memory::{GuestAddress, GuestAddressSpace, GuestMemoryBackend};
use vmm_sys_util::eventfd::EventFd;

/// What this code knows to do with rings; back ends elsewhere may know less.
pub const RING_FEATURES: u64 =
    1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_F_RING_PACKED;

/// The same for split rings only, which are all that back ends elsewhere are offered.
pub const SPLIT_FEATURES: u64 = RING_FEATURES & !(1 << VIRTIO_F_RING_PACKED);

/// Where a queue lies and how far it has come: what the driver programmed, and what a snapshot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueState {
    /// Number of entries; a power of two in a split queue.
    pub size: u16,
    /// Whether the driver has enabled the queue.
    pub ready: bool,
    /// Guest address of the descriptor table, or of a packed queue's ring.
    pub descriptor_table: u64,
    /// Guest address of the available ring, or of a packed queue's driver event suppression structure.
    pub available_ring: u64,
    /// Guest address of the used ring, or of a packed queue's device event suppression structure.
    pub used_ring: u64,
    /// The next entry to take.
    pub next_available: u16,
    /// The next entry to give back.
    pub next_used: u16,
    /// Whether the wrap counter of the entry to take is zero; it is one at first (§2.8.1). Only in packed queues.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub available_wrapped: bool,
    /// The same for the entry to give back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub used_wrapped: bool,
}

/// Why a queue cannot be used as the driver set it up.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The size is zero, too great or, in a split queue, no power of two.
    #[error("queue {index} has the invalid size {size}")]
    Size {
        /// Index of the queue.
        index: u16,
        /// Size the driver chose.
        size: u16,
    },
    /// A part is not aligned or not in guest memory.
    #[error("the {part} of queue {index} at {address:#x} is misaligned or outside of guest memory")]
    Address {
        /// Index of the queue.
        index: u16,
        /// Which of the three parts.
        part: &'static str,
        /// Where the driver put it.
        address: u64,
    },
    /// A saved position is outside of the ring.
    #[error("queue {index} of {size} entries cannot go on at entry {next}")]
    Position {
        /// Index of the queue.
        index: u16,
        /// The entry.
        next: u16,
        /// Number of entries.
        size: u16,
    },
}

/// The driver broke a rule.
struct Broken(&'static str);

/// A part of a queue in guest memory.
struct Part {
    name: &'static str,
    address: u64,
    align: u64,
    len: usize,
}

impl Part {
    fn new(name: &'static str, address: u64, align: u64, len: usize) -> Self {
        Self {
            name,
            address,
            align,
            len,
        }
    }

    fn is_valid(&self, ram: &Ram) -> bool {
        self.address != 0
            && self.address.is_multiple_of(self.align)
            && ram.check_range(GuestAddress(self.address), self.len)
    }
}

/// What the two forms of queues do differently. Whoever finds a rule broken is not asked again.
trait Ring: Send {
    /// Takes the next chain, if there is one.
    fn pop(&mut self, ram: &Ram) -> Result<Option<Chain>, Broken>;
    /// Puts the chain that was popped last back.
    fn undo_pop(&mut self, head: u16);
    /// Gives chains back with the number of bytes written to each. The driver sees all of them or none.
    fn add_used(&mut self, ram: &Ram, used: &[(u16, u32)]) -> Result<(), Broken>;
    /// Whether the driver wants to know of what was given back since the last call.
    fn wants_interrupt(&mut self, ram: &Ram) -> bool;
    /// Asks the driver not to notify.
    fn disable_notification(&mut self, ram: &Ram) -> Result<(), Broken>;
    /// Goes on where a back end elsewhere has come to, which would take `next_available` next.
    fn served_elsewhere(&mut self, ram: &Ram, next_available: Option<u16>);
    /// Keeps a record of what is in flight, and does again what is in it. Only split queues do.
    fn keep_record(&mut self, _record: Record) {}
    /// Asks the driver to notify. Returns whether there is something to take.
    fn enable_notification(&mut self, ram: &Ram) -> Result<bool, Broken>;
    /// Where the queue stands.
    fn state(&self) -> QueueState;
}

/// A virtqueue that a device works on.
pub struct Queue {
    index: u16,
    ring: Option<Box<dyn Ring>>,
    size: u16,
    /// Chains that the device has. There is at least one entry for each, so a driver that makes more available wants to
    /// use up our memory.
    in_flight: u16,
    memory: Memory,
    interrupt: Arc<dyn Interrupt>,
    notify: EventFd,
    /// Chains were given back since the last signal.
    unsignalled: bool,
}

impl Queue {
    /// Makes queue `index` as `state` says, at most `max_size` entries, in the form that the agreed `features` say.
    /// `notify` is signalled when the driver adds to it.
    pub fn new(
        index: u16,
        max_size: u16,
        state: &QueueState,
        features: u64,
        memory: Memory,
        interrupt: Arc<dyn Interrupt>,
        notify: EventFd,
    ) -> Result<Self, QueueError> {
        let ring = match state.ready {
            true => Some(ring(index, max_size, state, features, &memory.memory())?),
            false => None,
        };
        Ok(Self {
            index,
            ring,
            size: state.size,
            in_flight: 0,
            memory,
            interrupt,
            notify,
            unsignalled: false,
        })
    }

    /// The queue's number within its device.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The descriptor that is signalled when the driver adds chains.
    pub fn notify(&self) -> &EventFd {
        &self.notify
    }

    /// Whether the queue is set up and in order.
    pub fn is_ready(&self) -> bool {
        self.ring.is_some()
    }

    /// Guest memory as it is now.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes the next chain, if there is one.
    pub fn pop(&mut self) -> Option<Chain> {
        let guard = self.memory.memory();
        match self.ring.as_mut()?.pop(&guard) {
            Ok(None) => None,
            Ok(Some(chain)) if self.in_flight < self.size => {
                self.in_flight += 1;
                Some(chain)
            }
            Ok(Some(_)) => {
                self.fail("more chains than entries");
                None
            }
            Err(Broken(reason)) => {
                self.fail(reason);
                None
            }
        }
    }

    /// Puts the chain that was popped last, and not put back since, back to be popped again. By now chains that were
    /// popped before it may have been given back, but none that was popped after it.
    pub fn undo_pop(&mut self, head: u16) {
        if let Some(ring) = self.ring.as_mut() {
            ring.undo_pop(head);
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// Gives a chain back to the driver; `len` bytes of its writable part have been written.
    pub fn add_used(&mut self, head: u16, len: u32) {
        self.add_used_together(&[(head, len)]);
    }

    /// Gives chains back that the driver must not see one by one, such as the buffers of one frame.
    pub fn add_used_together(&mut self, used: &[(u16, u32)]) {
        let guard = self.memory.memory();
        let Some(ring) = self.ring.as_mut() else { return };
        self.unsignalled = true;
        // No more than are in flight, so it fits.
        self.in_flight = self.in_flight.saturating_sub(used.len() as u16);
        if let Err(Broken(reason)) = ring.add_used(&guard, used) {
            self.fail(reason);
        }
    }

    /// Interrupts the driver if chains were given back since the last call and it wants to know.
    pub fn signal(&mut self) {
        if !std::mem::take(&mut self.unsignalled) {
            return;
        }
        let guard = self.memory.memory();
        if self
            .ring
            .as_mut()
            .is_some_and(|ring| ring.wants_interrupt(&guard))
        {
            self.interrupt.queue(self.index);
        }
    }

    /// Asks the driver not to notify about new chains while the device is looking anyway.
    pub fn disable_notification(&mut self) {
        let guard = self.memory.memory();
        if let Some(Err(Broken(reason))) = self.ring.as_mut().map(|ring| ring.disable_notification(&guard)) {
            self.fail(reason);
        }
    }

    /// Asks for notifications again. Returns whether chains arrived meanwhile, which nobody will notify about.
    pub fn enable_notification(&mut self) -> bool {
        let guard = self.memory.memory();
        match self.ring.as_mut().map(|ring| ring.enable_notification(&guard)) {
            Some(Ok(more)) => more,
            Some(Err(Broken(reason))) => {
                self.fail(reason);
                false
            }
            None => false,
        }
    }

    /// Has the worker look at this queue again after it has served its other events.
    pub fn wake_again(&self) {
        // Fails only when the counter is full, and then it is signalled already.
        let _ = self.notify.write(1);
    }

    /// Takes over from a back end elsewhere, which has used chains and would have taken the available entry
    /// `next_available` next. One that cannot say is taken to have answered all that it took. Only for split queues: back
    /// ends elsewhere are not offered others.
    pub fn served_elsewhere(&mut self, next_available: Option<u16>) {
        let guard = self.memory.memory();
        if let Some(ring) = self.ring.as_mut() {
            ring.served_elsewhere(&guard, next_available);
        }
    }

    /// Keeps a record of the chains that the device has. Those that are in it already, because whoever had them died, are
    /// taken again before all others. Only split queues keep one.
    pub fn keep_record(&mut self, record: Record) {
        if let Some(ring) = self.ring.as_mut() {
            ring.keep_record(record);
        }
    }

    /// Where the queue stands.
    pub fn state(&self) -> QueueState {
        self.ring
            .as_ref()
            .map_or_else(QueueState::default, |ring| ring.state())
    }

    /// Gives the queue up until the driver resets the device. Called when the driver broke the rules, so that it can
    /// make us log one line per reset and no more.
    pub fn fail(&mut self, reason: &'static str) {
        if self.ring.take().is_some() {
            tracing::debug!(
                queue = self.index,
                reason,
                "queue given up until the driver resets the device"
            );
            self.interrupt.needs_reset();
        }
    }
}

fn ring(
    index: u16,
    max_size: u16,
    state: &QueueState,
    features: u64,
    ram: &Ram,
) -> Result<Box<dyn Ring>, QueueError> {
    let packed = features & 1 << VIRTIO_F_RING_PACKED != 0;
    let event_idx = features & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
    let (ring, parts): (Box<dyn Ring>, _) = match packed {
        true => (
            Box::new(Packed::new(index, max_size, state, event_idx)?),
            packed::parts(state),
        ),
        false => (
            Box::new(Split::new(index, max_size, state, event_idx)?),
            split::parts(state),
        ),
    };
    match parts.into_iter().find(|part| !part.is_valid(ram)) {
        None => Ok(ring),
        Some(Part { name, address, .. }) => Err(QueueError::Address {
            index,
            part: name,
            address,
        }),
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
