//! Guest memory as a vCPU sees it: linear addresses, by the page tables that are in force, or physical ones while there are
//! none. KVM walks the tables, once for each page; what they say is only used for memory of the guest.

use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use super::breakpoints::Planted;
use crate::kvm::debug::Debuggee;
use crate::memory::Ram;

/// The smallest page: larger ones are walked in its steps.
const PAGE_BYTES: u64 = 4096;

/// A part of a range that lies in one page: where it begins, and which bytes of the whole it has.
type Piece = (u64, Range<usize>);

/// Cuts a range at the pages' ends. There is none for a range that reaches the end of the address space.
fn pieces(address: u64, len: usize) -> Option<impl Iterator<Item = Piece>> {
    address.checked_add(u64::try_from(len).ok()?)?;
    let mut done = 0;
    Some(std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let start = address + done as u64;
        let in_page = (PAGE_BYTES - start % PAGE_BYTES) as usize;
        let bytes = done..len.min(done + in_page);
        done = bytes.end;
        Some((start, bytes))
    }))
}

/// Where a byte lies in the guest's memory.
#[must_use]
pub fn locate(vcpu: &dyn Debuggee, ram: &Ram, address: u64) -> Option<GuestAddress> {
    locate_piece(vcpu, ram, address, 1)
}

fn locate_piece(vcpu: &dyn Debuggee, ram: &Ram, address: u64, len: usize) -> Option<GuestAddress> {
    let physical = GuestAddress(vcpu.translate(address)?);
    ram.check_range(physical, len).then_some(physical)
}

/// Reads as much of a range as there is from its beginning; what breakpoints have replaced is read as it was.
pub fn read(vcpu: &dyn Debuggee, ram: &Ram, planted: &Planted, address: u64, data: &mut [u8]) -> usize {
    let Some(pieces) = pieces(address, data.len()) else {
        return 0;
    };
    let mut done = 0;
    for (start, bytes) in pieces {
        let end = bytes.end;
        let Some(part) = data.get_mut(bytes) else { break };
        let Some(physical) = locate_piece(vcpu, ram, start, part.len()) else {
            break;
        };
        if ram.read_slice(part, physical).is_err() {
            break;
        }
        planted.restore_in(physical, part);
        done = end;
    }
    done
}

/// Writes a range, all of it or nothing; breakpoints in it stay. Returns whether it could.
pub fn write(vcpu: &dyn Debuggee, ram: &Ram, planted: &mut Planted, address: u64, data: &[u8]) -> bool {
    let Some(pieces) = pieces(address, data.len()) else {
        return false;
    };
    let located = pieces.map(|(start, bytes)| {
        let part = data.get(bytes)?;
        Some((locate_piece(vcpu, ram, start, part.len())?, part))
    });
    let Some(located) = located.collect::<Option<Vec<_>>>() else {
        return false;
    };
    for (physical, part) in located {
        let mut part = part.to_vec();
        planted.replace_in(physical, &mut part);
        if ram.write_slice(&part, physical).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
