//! The device's side of a split virtqueue (virtio 1.3 §2.7), with EVENT_IDX and indirect descriptors.
//!
//! A [`Queue`] belongs to one worker. It hands out [`Chain`]s whose shape has been checked, and takes them back as
//! used. The rings lie in memory that a hostile driver changes at will: whatever does not fit breaks the queue, which
//! tells the driver once that the device needs a reset, and from then on the queue is empty.

use super::buffer::{Buffer, Segment};
use super::device::Interrupt;
use crate::memory::{Memory, Ram};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use virtio_queue::{Queue as Ring, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend};
use vmm_sys_util::eventfd::EventFd;

/// The most descriptors in one chain. Linux keeps to its `seg_max` (254 for our block device); drivers with indirect
/// tables could name 65,535, which would let one request pin a megabyte of bookkeeping.
pub const MAX_CHAIN_LEN: usize = 1024;

/// VIRTQ_AVAIL_F_NO_INTERRUPT (§2.7.6): the driver polls.
const AVAIL_NO_INTERRUPT: u16 = 1;

/// Where a queue lies and how far it has come: what the driver programmed, and what a snapshot holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueState {
    /// Number of entries, a power of two.
    pub size: u16,
    /// Whether the driver has enabled the queue.
    pub ready: bool,
    /// Guest address of the descriptor table.
    pub descriptor_table: u64,
    /// Guest address of the available ring.
    pub available_ring: u64,
    /// Guest address of the used ring.
    pub used_ring: u64,
    /// The next entry of the available ring to take.
    pub next_available: u16,
    /// The next entry of the used ring to fill.
    pub next_used: u16,
}

/// Why a queue cannot be used as the driver set it up.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The size is zero, too great or no power of two.
    #[error("queue {index} has the invalid size {size}")]
    Size {
        /// Index of the queue.
        index: u16,
        /// Size the driver chose.
        size: u16,
    },
    /// A ring is not aligned or not in guest memory.
    #[error("the {part} of queue {index} at {address:#x} is misaligned or outside of guest memory")]
    Address {
        /// Index of the queue.
        index: u16,
        /// Which of the three parts.
        part: &'static str,
        /// Where the driver put it.
        address: u64,
    },
}

/// One request of the driver.
#[derive(Debug)]
pub struct Chain {
    /// Index of the first descriptor; names the chain when it is given back.
    pub head: u16,
    /// What the device may read.
    pub readable: Buffer,
    /// What the device may write.
    pub writable: Buffer,
}

/// A virtqueue that a device works on.
pub struct Queue {
    index: u16,
    ring: Option<Ring>,
    memory: Memory,
    interrupt: Arc<dyn Interrupt>,
    notify: EventFd,
    /// Chains were given back since the last signal.
    unsignalled: bool,
}

impl Queue {
    /// Makes queue `index` as `state` says, at most `max_size` entries. `notify` is signalled when the driver adds to it.
    pub fn new(
        index: u16,
        max_size: u16,
        state: &QueueState,
        event_idx: bool,
        memory: Memory,
        interrupt: Arc<dyn Interrupt>,
        notify: EventFd,
    ) -> Result<Self, QueueError> {
        let ring = match state.ready {
            true => Some(Self::ring(index, max_size, state, event_idx, &memory.memory())?),
            false => None,
        };
        Ok(Self {
            index,
            ring,
            memory,
            interrupt,
            notify,
            unsignalled: false,
        })
    }

    fn ring(
        index: u16,
        max_size: u16,
        state: &QueueState,
        event_idx: bool,
        ram: &Ram,
    ) -> Result<Ring, QueueError> {
        let size_error = |_| QueueError::Size {
            index,
            size: state.size,
        };
        let mut ring = Ring::new(max_size).map_err(size_error)?;
        ring.try_set_size(state.size).map_err(size_error)?;
        let size = usize::from(state.size);
        // Sizes from §2.7: 16 bytes a descriptor; rings with their flags, index and event index around the entries.
        for (part, address, align, len) in [
            ("descriptor table", state.descriptor_table, 16, 16 * size),
            ("available ring", state.available_ring, 2, 6 + 2 * size),
            ("used ring", state.used_ring, 4, 6 + 8 * size),
        ] {
            if address == 0 || address % align != 0 || !ram.check_range(GuestAddress(address), len) {
                return Err(QueueError::Address { index, part, address });
            }
        }
        let address_error = |part, address| move |_| QueueError::Address { index, part, address };
        ring.try_set_desc_table_address(GuestAddress(state.descriptor_table))
            .map_err(address_error("descriptor table", state.descriptor_table))?;
        ring.try_set_avail_ring_address(GuestAddress(state.available_ring))
            .map_err(address_error("available ring", state.available_ring))?;
        ring.try_set_used_ring_address(GuestAddress(state.used_ring))
            .map_err(address_error("used ring", state.used_ring))?;
        ring.set_next_avail(state.next_available);
        ring.set_next_used(state.next_used);
        ring.set_event_idx(event_idx);
        ring.set_ready(true);
        Ok(ring)
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
        let ring = self.ring.as_mut()?;
        let popped = match ring.iter(&*guard) {
            Ok(mut available) => available.next().map(collect),
            Err(_) => Some(None),
        };
        match popped? {
            Some(chain) => Some(chain),
            None => {
                self.fail("malformed ring or descriptor chain");
                None
            }
        }
    }

    /// Puts the chain that was popped last back, to be popped again.
    pub fn undo_pop(&mut self) {
        if let Some(ring) = self.ring.as_mut() {
            ring.go_to_previous_position();
        }
    }

    /// Gives a chain back to the driver; `len` bytes of its writable part have been written.
    pub fn add_used(&mut self, head: u16, len: u32) {
        let guard = self.memory.memory();
        let Some(ring) = self.ring.as_mut() else { return };
        self.unsignalled = true;
        if ring.add_used(&*guard, head, len).is_err() {
            self.fail("used ring cannot be written");
        }
    }

    /// Interrupts the driver if chains were given back since the last call and it wants to know.
    pub fn signal(&mut self) {
        if !std::mem::take(&mut self.unsignalled) {
            return;
        }
        let guard = self.memory.memory();
        let Some(ring) = self.ring.as_mut() else { return };
        let wanted = match ring.event_idx_enabled() {
            true => ring.needs_notification(&*guard).unwrap_or(true),
            // The crate leaves this flag to us (§2.7.7.2); the address was checked when the ring was made.
            false => {
                std::sync::atomic::fence(Ordering::SeqCst);
                let flags: u16 = guard
                    .load(GuestAddress(ring.avail_ring()), Ordering::Relaxed)
                    .unwrap_or(0);
                u16::from_le(flags) & AVAIL_NO_INTERRUPT == 0
            }
        };
        if wanted {
            self.interrupt.queue(self.index);
        }
    }

    /// Asks the driver not to notify about new chains while the device is looking anyway.
    pub fn disable_notification(&mut self) {
        let guard = self.memory.memory();
        let failed = self
            .ring
            .as_mut()
            .is_some_and(|ring| ring.disable_notification(&*guard).is_err());
        if failed {
            self.fail("used ring cannot be written");
        }
    }

    /// Asks for notifications again. Returns whether chains arrived meanwhile, which nobody will notify about.
    pub fn enable_notification(&mut self) -> bool {
        let guard = self.memory.memory();
        match self.ring.as_mut().map(|ring| ring.enable_notification(&*guard)) {
            Some(Ok(more)) => more,
            Some(Err(_)) => {
                self.fail("used ring cannot be written");
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

    /// Where the queue stands.
    pub fn state(&self) -> QueueState {
        match self.ring.as_ref() {
            None => QueueState::default(),
            Some(ring) => QueueState {
                size: ring.size(),
                ready: true,
                descriptor_table: ring.desc_table(),
                available_ring: ring.avail_ring(),
                used_ring: ring.used_ring(),
                next_available: ring.next_avail(),
                next_used: ring.next_used(),
            },
        }
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

/// Collects a chain's descriptors, or nothing if it is not well-formed (§2.7.4.2: writable ones come last; §2.7.5: the
/// last one has no NEXT flag, and the iterator stops early at whatever it cannot follow).
fn collect(chain: virtio_queue::DescriptorChain<&Ram>) -> Option<Chain> {
    let head = chain.head_index();
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    let mut complete = false;
    for descriptor in chain {
        complete = !descriptor.has_next();
        let segment = Segment {
            address: descriptor.addr(),
            len: descriptor.len(),
        };
        match descriptor.is_write_only() {
            true => writable.push(segment),
            false if writable.is_empty() => readable.push(segment),
            false => return None,
        }
        if readable.len() + writable.len() > MAX_CHAIN_LEN {
            return None;
        }
    }
    complete.then(|| Chain {
        head,
        readable: Buffer::new(readable),
        writable: Buffer::new(writable),
    })
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
