//! Packed virtqueues (virtio 1.3 §2.8): one ring of descriptors, which the driver makes available and the device
//! overwrites with what it has used. Whose turn it is tell two bits of each descriptor, whose meaning changes with each
//! round through the ring (§2.8.1), and two small structures say who wants to be notified (§2.8.10).

use super::chain::{Chain, Collector, MAX_CHAIN_LEN};
use super::{Broken, Part, QueueError, QueueState, Ring};
use crate::memory::Ram;
use std::sync::atomic::{Ordering, fence};
use vm_memory::{Bytes, GuestAddress};

/// The most entries (§2.8.10.1): positions have 15 bits, beside the wrap counter.
const MAX_SIZE: u16 = 1 << 15;

/// Descriptor flags (§2.8.13).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Event suppression flags (§2.8.14): never, or only at a certain descriptor. Zero is always.
const EVENTS_OFF: u32 = 1;
const EVENTS_AT_DESCRIPTOR: u32 = 2;

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;

/// A descriptor (§2.8.13).
#[derive(Debug, Clone, Copy)]
struct Descriptor {
    address: u64,
    len: u32,
    id: u16,
    flags: u16,
}

impl Descriptor {
    fn read(ram: &Ram, address: u64) -> Result<Self, Broken> {
        let raw: u128 = ram
            .read_obj(GuestAddress(address))
            .map_err(|_| Broken("descriptor outside of guest memory"))?;
        let raw = u128::from_le(raw);
        Ok(Self {
            address: raw as u64,
            len: (raw >> 64) as u32,
            id: (raw >> 96) as u16,
            flags: (raw >> 112) as u16,
        })
    }
}

/// A place in the ring, and the wrap counter with which it was reached (§2.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    index: u16,
    wrap: bool,
}

impl Position {
    /// `count` is at most `size`.
    fn advance(&mut self, count: u16, size: u16) {
        let index = u32::from(self.index) + u32::from(count);
        let passed = index >= u32::from(size);
        self.wrap ^= passed;
        // Below `size`, so it fits.
        self.index = (index - if passed { u32::from(size) } else { 0 }) as u16;
    }

    /// `count` is at most `size`.
    fn retreat(&mut self, count: u16, size: u16) {
        let passed = count > self.index;
        self.wrap ^= passed;
        self.index = self
            .index
            .wrapping_sub(count)
            .wrapping_add(if passed { size } else { 0 });
    }

    /// Whether a descriptor with these flags is available here: the driver has marked it in this round, and the device
    /// has not.
    fn is_available(self, flags: u16) -> bool {
        (flags & AVAILABLE != 0) == self.wrap && (flags & USED != 0) != self.wrap
    }

    /// The flags that mark a descriptor as used here.
    fn used_flags(self) -> u16 {
        if self.wrap { AVAILABLE | USED } else { 0 }
    }
}

/// A chain that the device has: the buffer id by which the driver knows it, and its number of descriptors in the ring.
#[derive(Debug, Clone, Copy)]
struct Taken {
    id: u16,
    count: u16,
}

/// Chains that the device has. Buffer ids are any numbers, so it knows them by their places in here.
#[derive(Default)]
struct InFlight {
    chains: Vec<Option<Taken>>,
    free: Vec<u16>,
    /// Descriptors of all of them.
    descriptors: u16,
}

impl InFlight {
    /// The caller has made sure that all have no more than 2¹⁵ descriptors.
    fn insert(&mut self, taken: Taken) -> u16 {
        self.descriptors += taken.count;
        let head = self.free.pop().unwrap_or(self.chains.len() as u16);
        match self.chains.get_mut(usize::from(head)) {
            Some(place) => *place = Some(taken),
            None => self.chains.push(Some(taken)),
        }
        head
    }

    fn remove(&mut self, head: u16) -> Option<Taken> {
        let taken = self.chains.get_mut(usize::from(head))?.take()?;
        self.free.push(head);
        self.descriptors -= taken.count;
        Some(taken)
    }
}

/// The ring and the two event suppression structures (§2.8.10.1).
pub(super) fn parts(state: &QueueState) -> [Part; 3] {
    let size = usize::from(state.size);
    [
        Part::new("descriptor ring", state.descriptor_table, 16, 16 * size),
        Part::new("driver event suppression", state.available_ring, 4, 4),
        Part::new("device event suppression", state.used_ring, 4, 4),
    ]
}

/// A packed queue.
pub(super) struct Packed {
    size: u16,
    event_idx: bool,
    ring: u64,
    driver_events: GuestAddress,
    device_events: GuestAddress,
    available: Position,
    used: Position,
    in_flight: InFlight,
    /// Descriptors given back since the driver was last told.
    untold: u32,
}

impl Packed {
    pub(super) fn new(
        index: u16,
        max_size: u16,
        state: &QueueState,
        event_idx: bool,
    ) -> Result<Self, QueueError> {
        let size = state.size;
        if size == 0 || size > max_size.min(MAX_SIZE) {
            return Err(QueueError::Size { index, size });
        }
        let position = |next, wrapped: bool| match next < size {
            true => Ok(Position {
                index: next,
                wrap: !wrapped,
            }),
            false => Err(QueueError::Position { index, next, size }),
        };
        Ok(Self {
            size,
            event_idx,
            ring: state.descriptor_table,
            driver_events: GuestAddress(state.available_ring),
            device_events: GuestAddress(state.used_ring),
            available: position(state.next_available, state.available_wrapped)?,
            used: position(state.next_used, state.used_wrapped)?,
            in_flight: InFlight::default(),
            untold: 0,
        })
    }

    /// Where a descriptor lies. The ring lies in memory as a whole: that was checked when it was set up.
    fn address(&self, position: Position) -> u64 {
        self.ring + DESCRIPTOR * u64::from(position.index)
    }

    /// The flags of the next descriptor if it is available. Whoever sees them sees all that the driver wrote before.
    fn next_available(&self, ram: &Ram) -> Result<Option<u16>, Broken> {
        let flags = GuestAddress(self.address(self.available) + 14);
        let flags = ram
            .load(flags, Ordering::Acquire)
            .map(u16::from_le)
            .map_err(|_| Broken("descriptor outside of guest memory"))?;
        Ok(self.available.is_available(flags).then_some(flags))
    }

    /// Marks a descriptor as used; the driver sees it, and all that was written before, from now on.
    fn publish(&self, ram: &Ram, position: Position, flags: u16) -> Result<(), Broken> {
        let address = GuestAddress(self.address(position) + 14);
        ram.store(flags.to_le(), address, Ordering::Release)
            .map_err(|_| UNWRITABLE)
    }

    fn set_device_events(&self, ram: &Ram, offset: u16, flags: u32) -> Result<(), Broken> {
        let value = flags << 16 | u32::from(offset);
        ram.store(value.to_le(), self.device_events, Ordering::Release)
            .map_err(|_| UNWRITABLE)
    }
}

const UNWRITABLE: Broken = Broken("descriptor ring cannot be written");

/// Collects the descriptors of an indirect table, in which all flags but WRITE are ignored (§2.8.7).
fn collect_indirect(ram: &Ram, table: Descriptor, collector: &mut Collector) -> Result<(), Broken> {
    let len = u64::from(table.len);
    if len == 0 || len % DESCRIPTOR != 0 || len / DESCRIPTOR > MAX_CHAIN_LEN as u64 {
        return Err(Broken("indirect table of an impossible length"));
    }
    for index in 0..len / DESCRIPTOR {
        let address = table
            .address
            .checked_add(DESCRIPTOR * index)
            .ok_or(Broken("indirect table beyond all addresses"))?;
        let descriptor = Descriptor::read(ram, address)?;
        collector.add(descriptor.address, descriptor.len, descriptor.flags & WRITE != 0)?;
    }
    Ok(())
}

impl Ring for Packed {
    fn pop(&mut self, ram: &Ram) -> Result<Option<Chain>, Broken> {
        // These flags count, whatever is there when the rest is read.
        let Some(first_flags) = self.next_available(ram)? else {
            return Ok(None);
        };
        let mut collector = Collector::default();
        let mut position = self.available;
        let mut count = 0;
        let id = loop {
            if self.in_flight.descriptors + count >= self.size {
                return Err(Broken("more descriptors than entries"));
            }
            let descriptor = Descriptor::read(ram, self.address(position))?;
            let flags = if count == 0 { first_flags } else { descriptor.flags };
            position.advance(1, self.size);
            count += 1;
            if flags & INDIRECT != 0 {
                if count > 1 || flags & NEXT != 0 {
                    return Err(Broken("indirect table within a chain"));
                }
                collect_indirect(ram, descriptor, &mut collector)?;
                break descriptor.id;
            }
            collector.add(descriptor.address, descriptor.len, flags & WRITE != 0)?;
            if flags & NEXT == 0 {
                // The last descriptor has the id (§2.8.6).
                break descriptor.id;
            }
        };
        self.available = position;
        let head = self.in_flight.insert(Taken { id, count });
        Ok(Some(collector.finish(head)))
    }

    fn undo_pop(&mut self, head: u16) {
        if let Some(taken) = self.in_flight.remove(head) {
            self.available.retreat(taken.count, self.size);
        }
    }

    fn add_used(&mut self, ram: &Ram, used: &[(u16, u32)]) -> Result<(), Broken> {
        let mut first = None;
        for (head, len) in used {
            let Some(taken) = self.in_flight.remove(*head) else {
                continue;
            };
            let position = self.used;
            self.used.advance(taken.count, self.size);
            self.untold = self.untold.saturating_add(u32::from(taken.count));
            // Length and id lie between address, which stays, and flags.
            let value = u64::from(taken.id) << 32 | u64::from(*len);
            let bytes = value.to_le_bytes();
            let address = GuestAddress(self.address(position) + 8);
            ram.write_slice(bytes.get(..6).unwrap_or_default(), address)
                .map_err(|_| UNWRITABLE)?;
            // The length counts only with this flag (§2.8.4).
            let flags = position.used_flags() | if *len > 0 { WRITE } else { 0 };
            match first {
                None => first = Some((position, flags)),
                Some(_) => self.publish(ram, position, flags)?,
            }
        }
        // The driver does not look past the first before it is there.
        match first {
            Some((position, flags)) => self.publish(ram, position, flags),
            None => Ok(()),
        }
    }

    fn wants_interrupt(&mut self, ram: &Ram) -> bool {
        // What was given back must be there for all to see before we look at what the driver wants.
        fence(Ordering::SeqCst);
        let untold = std::mem::take(&mut self.untold);
        let Ok(events) = ram.load(self.driver_events, Ordering::Relaxed) else {
            return true;
        };
        let events = u32::from_le(events);
        match events >> 16 & 3 {
            EVENTS_OFF => false,
            // Whether the descriptor lies among those that were given back: how far behind the next one it is. Places are
            // told apart for two rounds, and one that was given back in the round before last is among them, too.
            EVENTS_AT_DESCRIPTOR if self.event_idx => {
                let size = u32::from(self.size);
                let place = |index: u32, wrap: bool| (index + if wrap { 0 } else { size }) % (2 * size);
                let next = place(u32::from(self.used.index), self.used.wrap);
                let wanted = place(events & 0x7fff, events & 1 << 15 != 0);
                let behind = (next + 2 * size - wanted) % (2 * size);
                (1..=untold).contains(&behind) || untold >= 2 * size
            }
            _ => true,
        }
    }

    fn disable_notification(&mut self, ram: &Ram) -> Result<(), Broken> {
        self.set_device_events(ram, 0, EVENTS_OFF)
    }

    fn enable_notification(&mut self, ram: &Ram) -> Result<bool, Broken> {
        match self.event_idx {
            true => {
                let offset = self.available.index | u16::from(self.available.wrap) << 15;
                self.set_device_events(ram, offset, EVENTS_AT_DESCRIPTOR)?;
            }
            false => self.set_device_events(ram, 0, 0)?,
        }
        // The driver makes descriptors available before it looks at what we want; we look the other way round.
        fence(Ordering::SeqCst);
        Ok(self.next_available(ram)?.is_some())
    }

    fn served_elsewhere(&mut self, _ram: &Ram, _next_available: Option<u16>) {}

    fn state(&self) -> QueueState {
        QueueState {
            size: self.size,
            ready: true,
            descriptor_table: self.ring,
            available_ring: self.driver_events.0,
            used_ring: self.device_events.0,
            next_available: self.available.index,
            next_used: self.used.index,
            available_wrapped: !self.available.wrap,
            used_wrapped: !self.used.wrap,
        }
    }
}

#[cfg(test)]
#[path = "packed_tests.rs"]
mod tests;
