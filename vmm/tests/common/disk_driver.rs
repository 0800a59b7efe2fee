//! A payload's driver for a block device over PCI: one queue, one request.

use super::payload::Payload;

/// Queue, request and buffer in guest memory.
pub(crate) const DESCRIPTORS: u64 = 0x30_0000;
pub(crate) const AVAILABLE: u64 = 0x30_1000;
pub(crate) const USED: u64 = 0x30_2000;
pub(crate) const HEADER: u64 = 0x30_3000;
pub(crate) const DATA: u64 = 0x30_4000;
pub(crate) const STATUS: u64 = 0x30_5000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Where a device is.
#[derive(Clone, Copy)]
pub(crate) struct PciDisk {
    /// Its configuration space.
    pub(crate) config: u64,
    /// Its registers.
    pub(crate) bar: u64,
}

impl PciDisk {
    /// The device in this slot, whose registers are the n-th area of their size that the bus gave away.
    pub(crate) const fn new(slot: u64, nth: u64) -> Self {
        Self {
            config: 0xe000_0000 + (slot << 15),
            bar: 0xc000_0000 + (nth << 15),
        }
    }

    pub(crate) const fn notify(self) -> u64 {
        self.bar + 0x3000
    }

    pub(crate) const fn msix_table(self) -> u64 {
        self.bar + 0x4000
    }

    /// Sets up a device: bus mastering, features, one queue with a message, driver ready.
    pub(crate) fn set_up(self, payload: Payload) -> Payload {
        let bar = self.bar;
        payload
            .store16(self.config + 4, 6)
            .store8(bar + 20, 0)
            .store8(bar + 20, 3)
            .store32(bar + 8, 0)
            .store32(bar + 12, 0)
            .store32(bar + 8, 1)
            .store32(bar + 12, 1)
            .store8(bar + 20, 0xb)
            .store16(bar + 22, 0)
            .store16(bar + 24, 8)
            .store16(bar + 26, 1)
            .store64(bar + 32, DESCRIPTORS)
            .store64(bar + 40, AVAILABLE)
            .store64(bar + 48, USED)
            .store16(bar + 28, 1)
            .store8(bar + 20, 0xf)
    }
}

fn descriptor(payload: Payload, index: u64, address: u64, len: u32, flags: u16, next: u16) -> Payload {
    let at = DESCRIPTORS + 16 * index;
    payload
        .store64(at, address)
        .store32(at + 8, len)
        .store16(at + 12, flags)
        .store16(at + 14, next)
}

/// Puts a request for one sector into the queue (virtio 1.3 §5.2.6).
pub(crate) fn read_request(payload: Payload, sector: u64) -> Payload {
    let payload = payload
        .store64(HEADER, 0)
        .store64(HEADER + 8, sector)
        .store8(STATUS, 0xff);
    let payload = descriptor(payload, 0, HEADER, 16, NEXT, 1);
    let payload = descriptor(payload, 1, DATA, 512, NEXT | WRITE, 2);
    descriptor(payload, 2, STATUS, 1, WRITE, 0)
        .store16(AVAILABLE + 4, 0)
        .store16(AVAILABLE + 2, 1)
}

/// A disk whose third sector says something.
pub(crate) fn disk(text: &str) -> Vec<u8> {
    let mut disk = vec![b'-'; 8 * 512];
    disk[2 * 512..2 * 512 + text.len()].copy_from_slice(text.as_bytes());
    disk
}
