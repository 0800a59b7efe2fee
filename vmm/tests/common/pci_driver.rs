//! How a payload's driver takes a virtio device over PCI (virtio 1.3 §3.1.1, §4.1.4.3).

use super::payload::Payload;

/// Where a device is.
#[derive(Clone, Copy)]
pub(crate) struct PciDevice {
    /// Its configuration space.
    pub(crate) config: u64,
    /// Its registers.
    pub(crate) bar: u64,
}

/// The device in slot 1.
pub(crate) const FIRST: PciDevice = PciDevice::new(1, 0);

impl PciDevice {
    /// The device in this slot, whose registers are the n-th area of their size that the bus gave away.
    pub(crate) const fn new(slot: u64, nth: u64) -> Self {
        Self {
            config: 0xe000_0000 + (slot << 15),
            bar: 0xc000_0000 + (nth << 15),
        }
    }

    /// Where queue 0 is notified; each further one is 4 bytes on.
    pub(crate) const fn notify(self) -> u64 {
        self.bar + 0x3000
    }

    /// Resets the device and agrees on these halves of the features. Queues follow.
    pub(crate) fn negotiate(self, payload: Payload, low: u32, high: u32) -> Payload {
        let bar = self.bar;
        payload
            .store16(self.config + 4, 6)
            .store8(bar + 20, 0)
            .store8(bar + 20, 3)
            .store32(bar + 8, 0)
            .store32(bar + 12, low)
            .store32(bar + 8, 1)
            .store32(bar + 12, high)
            .store8(bar + 20, 0xb)
    }

    /// Selects a queue, gives it eight entries and these parts, and enables it.
    pub(crate) fn queue(self, payload: Payload, index: u16, parts: [u64; 3]) -> Payload {
        let bar = self.bar;
        let [descriptors, available, used] = parts;
        payload
            .store16(bar + 22, index)
            .store16(bar + 24, 8)
            .store64(bar + 32, descriptors)
            .store64(bar + 40, available)
            .store64(bar + 48, used)
            .store16(bar + 28, 1)
    }

    /// The driver is ready.
    pub(crate) fn driver_ok(self, payload: Payload) -> Payload {
        payload.store8(self.bar + 20, 0xf)
    }
}
