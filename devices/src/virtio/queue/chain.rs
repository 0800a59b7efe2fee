//! A request of the driver, and the rules for its descriptors that both forms of queues have in common.

use super::Broken;
use crate::virtio::buffer::{Buffer, Segment, Segments};
use vm_memory::GuestAddress;

/// The most descriptors in one chain. Linux keeps to its `seg_max` (254 for our block device); drivers with indirect
/// tables could name 65,535, which would let one request pin a megabyte of bookkeeping.
pub const MAX_CHAIN_LEN: usize = 1024;

/// One request of the driver.
#[derive(Debug)]
pub struct Chain {
    /// Names the chain when it is given back.
    pub head: u16,
    /// What the device may read.
    pub readable: Buffer,
    /// What the device may write.
    pub writable: Buffer,
}

/// Descriptors of a chain so far.
#[derive(Default)]
pub(super) struct Collector {
    readable: Segments,
    writable: Segments,
    bytes: u32,
}

impl Collector {
    /// Adds the next descriptor. Writable ones come last (virtio 1.3 §2.7.4.2, §2.8.17), and all together have less than
    /// 2³² bytes (§2.7.5.2, §2.8.20.2).
    pub(super) fn add(&mut self, address: u64, len: u32, writable: bool) -> Result<(), Broken> {
        self.bytes = self
            .bytes
            .checked_add(len)
            .ok_or(Broken("descriptor chain of more than 4 GiB"))?;
        if self.readable.len() + self.writable.len() >= MAX_CHAIN_LEN {
            return Err(Broken("descriptor chain too long"));
        }
        let segment = Segment {
            address: GuestAddress(address),
            len,
        };
        match writable {
            true => self.writable.push(segment),
            false if self.writable.is_empty() => self.readable.push(segment),
            false => return Err(Broken("readable descriptor behind a writable one")),
        }
        Ok(())
    }

    pub(super) fn finish(self, head: u16) -> Chain {
        Chain {
            head,
            readable: Buffer::new(self.readable),
            writable: Buffer::new(self.writable),
        }
    }
}
