//! Breakpoints: `int3` in the guest's memory, and the four places that the processor compares addresses with (SDM vol. 3
//! §17.2).

use std::collections::BTreeMap;

use gdbstub::target::ext::breakpoints::WatchKind;
use vm_memory::{Address, Bytes, GuestAddress};

use crate::memory::Ram;

/// The instruction `int3`.
const INT3: u8 = 0xcc;
/// More than a person sets by hand.
pub const MAX_PLANTED: usize = 1024;

/// An instruction that has been replaced.
struct Plant {
    physical: GuestAddress,
    original: u8,
}

/// Breakpoints in memory, by linear address. What each replaced is found again by its physical address, because page tables
/// change.
#[derive(Default)]
pub struct Planted(BTreeMap<u64, Plant>);

impl Planted {
    /// Whether there is one at this linear address.
    #[must_use]
    pub fn has(&self, address: u64) -> bool {
        self.0.contains_key(&address)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts one at a linear address, which lies at `physical`. Returns whether it could.
    pub fn add(&mut self, ram: &Ram, address: u64, physical: GuestAddress) -> bool {
        if self.has(address) {
            return true;
        }
        if self.0.len() >= MAX_PLANTED {
            return false;
        }
        // Another one may be there by another address.
        let original = match self.0.values().find(|plant| plant.physical == physical) {
            Some(plant) => plant.original,
            None => match ram.read_obj(physical) {
                Ok(original) if ram.write_obj(INT3, physical).is_ok() => original,
                _ => return false,
            },
        };
        self.0.insert(address, Plant { physical, original });
        true
    }

    /// Takes one away. Returns whether there was one.
    pub fn remove(&mut self, ram: &Ram, address: u64) -> bool {
        let Some(Plant { physical, original }) = self.0.remove(&address) else {
            return false;
        };
        let shared = self.0.values().any(|plant| plant.physical == physical);
        // The guest may have put something else there meanwhile.
        if !shared && ram.read_obj::<u8>(physical).is_ok_and(|now| now == INT3) {
            // It could be read, so it can be written.
            let _ = ram.write_obj(original, physical);
        }
        true
    }

    /// Takes all away.
    pub fn clear(&mut self, ram: &Ram) {
        while let Some((&address, _)) = self.0.first_key_value() {
            self.remove(ram, address);
        }
    }

    fn within(&mut self, physical: GuestAddress, len: usize) -> impl Iterator<Item = (usize, &mut Plant)> {
        self.0
            .values_mut()
            .filter_map(move |plant| Some((offset(plant, physical, len)?, plant)))
    }

    /// Puts what breakpoints have replaced into a copy of memory from `physical` on.
    pub fn restore_in(&self, physical: GuestAddress, data: &mut [u8]) {
        for plant in self.0.values() {
            if let Some(byte) = offset(plant, physical, data.len()).and_then(|offset| data.get_mut(offset)) {
                *byte = plant.original;
            }
        }
    }

    /// Puts breakpoints into what is about to be written from `physical` on, and remembers what they replace.
    pub fn replace_in(&mut self, physical: GuestAddress, data: &mut [u8]) {
        let copy = data.to_vec();
        for (offset, plant) in self.within(physical, data.len()) {
            if let (Some(byte), Some(original)) = (data.get_mut(offset), copy.get(offset)) {
                plant.original = *original;
                *byte = INT3;
            }
        }
    }
}

/// Where a breakpoint lies in memory from `physical` on, if it is in there.
fn offset(plant: &Plant, physical: GuestAddress, len: usize) -> Option<usize> {
    let offset = plant.physical.checked_offset_from(physical)?;
    usize::try_from(offset).ok().filter(|offset| *offset < len)
}

/// What the processor stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An instruction.
    Execute,
    /// Data.
    Watch(WatchKind),
}

/// One of the four places, and what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    address: u64,
    len: u64,
    kind: Kind,
    asked: (u64, u64),
}

/// The four places.
#[derive(Debug, Default)]
pub struct Compared([Option<Place>; 4]);

/// DR7: the bits that are always set, and the exact ones, which old processors need for data.
const DR7_BASE: u64 = 0x700;

impl Compared {
    /// Whether nothing is compared.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Takes as many places as it needs for a range; an instruction has length 1. Returns whether there are enough.
    pub fn add(&mut self, address: u64, len: u64, kind: Kind) -> bool {
        let asked = (address, len);
        if self.find(asked, kind) {
            return true;
        }
        let Some(end) = address.checked_add(len).filter(|_| len > 0) else {
            return false;
        };
        let mut next = self.0;
        let mut free = next.iter_mut().filter(|place| place.is_none());
        let mut start = address;
        while start < end {
            // The largest piece of 1, 2, 4 or 8 bytes that is aligned to its size and fits.
            let size = [8, 4, 2, 1]
                .into_iter()
                .find(|size| start.is_multiple_of(*size) && end - start >= *size);
            let (Some(place), Some(len)) = (free.next(), size) else {
                return false;
            };
            *place = Some(Place {
                address: start,
                len,
                kind,
                asked,
            });
            start += len;
        }
        self.0 = next;
        true
    }

    fn find(&self, asked: (u64, u64), kind: Kind) -> bool {
        let mut places = self.0.iter().flatten();
        places.any(|place| place.asked == asked && place.kind == kind)
    }

    /// Gives up the places of a range. Returns whether it had any.
    pub fn remove(&mut self, address: u64, len: u64, kind: Kind) -> bool {
        let found = self.find((address, len), kind);
        for place in &mut self.0 {
            place.take_if(|place| place.asked == (address, len) && place.kind == kind);
        }
        found
    }

    /// Debug registers 0 to 7.
    #[must_use]
    pub fn registers(&self) -> [u64; 8] {
        let mut registers = [0; 8];
        let mut control = DR7_BASE;
        for ((index, place), register) in self.0.iter().enumerate().zip(&mut registers) {
            let Some(place) = place else { continue };
            *register = place.address;
            let condition = match place.kind {
                Kind::Execute => 0,
                Kind::Watch(WatchKind::Write) => 1,
                // Processors know no reading alone; debuggers see by the value that it was written.
                Kind::Watch(WatchKind::Read | WatchKind::ReadWrite) => 3,
            };
            let len = match place.len {
                1 => 0,
                2 => 1,
                8 => 2,
                _ => 3,
            };
            control |= 2 << (2 * index) | (condition | len << 2) << (16 + 4 * index);
        }
        registers[7] = control;
        registers
    }

    /// What matched, by the low bits of DR6: its kind and address.
    #[must_use]
    pub fn hit(&self, status: u64) -> Option<(Kind, u64)> {
        let mut places = self.0.iter().enumerate();
        places.find_map(|(index, place)| {
            let place = place.filter(|_| status & 1 << index != 0)?;
            Some((place.kind, place.address))
        })
    }

    /// Takes all away.
    pub fn clear(&mut self) {
        self.0 = Default::default();
    }
}

#[cfg(test)]
#[path = "breakpoints_tests.rs"]
mod tests;
