//! A payload's driver for a block device over PCI: one queue, one request.

use super::payload::Payload;
use super::pci_driver::{FIRST, PciDevice};
use super::vm::Spec;
use serde_json::json;

/// The first virtio-mmio device.
const MMIO: u64 = 0xe800_0000;

/// Queue, request and buffer in guest memory.
pub(crate) const DESCRIPTORS: u64 = 0x30_0000;
pub(crate) const AVAILABLE: u64 = 0x30_1000;
pub(crate) const USED: u64 = 0x30_2000;
pub(crate) const HEADER: u64 = 0x30_3000;
pub(crate) const DATA: u64 = 0x30_4000;
pub(crate) const STATUS: u64 = 0x30_5000;

/// Where the local APIC shows that the message of [`PciDevice::with_message`] has come: an address and a bit.
pub(crate) const MESSAGE_BIT: (u64, u32) = (LOCAL_APIC + 0x220, 1 << 1);
const LOCAL_APIC: u64 = 0xfee0_0000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

impl PciDevice {
    pub(crate) const fn msix_table(self) -> u64 {
        self.bar + 0x4000
    }

    /// The same with messages switched on: vector 1 of the device is vector 0x41 of the local APIC, which collects it.
    pub(crate) fn with_message(self, payload: Payload) -> Payload {
        // The message control word is two bytes after the capability, whose place is read from a device like this one
        // instead of looking for it in the list, to keep the payload short.
        self.set_up(payload)
            .store32(LOCAL_APIC + 0xf0, 0x1ff)
            .store32(self.msix_table() + 16, 0xfee0_0000)
            .store32(self.msix_table() + 20, 0)
            .store32(self.msix_table() + 24, 0x41)
            .store32(self.msix_table() + 28, 0)
            .store16(self.config + msix_capability() + 2, 0x8000)
    }

    /// Sets up a device: bus mastering, features, one queue with a message, driver ready.
    pub(crate) fn set_up(self, payload: Payload) -> Payload {
        self.set_up_with(payload, 1)
    }

    /// The same with this upper half of the features.
    pub(crate) fn set_up_with(self, payload: Payload, features: u32) -> Payload {
        let payload = self
            .negotiate(payload, 0, features)
            .store16(self.bar + 22, 0)
            .store16(self.bar + 26, 1);
        self.driver_ok(self.queue(payload, 0, [DESCRIPTORS, AVAILABLE, USED]))
    }
}

/// Where virtio-pci devices have their MSI-X capability: the transport lays out all devices alike.
fn msix_capability() -> u64 {
    // Walks the list in a payload that prints one byte for each capability: its id, then its offset.
    let mut payload = Payload::new();
    // mov rbx, config; movzx ecx, byte [rbx + 0x34]; mov dx, 0x3f8
    payload = payload
        .at(FIRST.config)
        .raw(&[0x0f, 0xb6, 0x4b, 0x34, 0x66, 0xba, 0xf8, 0x03]);
    // again: mov al, [rbx + rcx]; out dx, al; mov al, cl; out dx, al; movzx ecx, byte [rbx + rcx + 1];
    // test ecx, ecx; jnz again
    payload = payload.raw(&[
        0x8a, 0x04, 0x0b, 0xee, 0x88, 0xc8, 0xee, 0x0f, 0xb6, 0x4c, 0x0b, 0x01, 0x85, 0xc9, 0x75, 0xf0,
    ]);
    let mut spec = Spec::new(&payload.power_off());
    let path = spec.file("disk", &[0; 512]);
    spec = spec.set("disks", json!([{"id": "root", "path": path}]));
    let vm = spec.start();
    let log = vm.run_dir().join("console.log");
    let (_, ended) = vm.end_with(&log);
    let capabilities: Vec<[u8; 2]> = ended.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
    assert!(
        capabilities.iter().filter(|[id, _]| *id == 9).count() >= 4,
        "{capabilities:?}"
    );
    capabilities.iter().find(|[id, _]| *id == 0x11).unwrap()[1].into()
}

fn descriptor(payload: Payload, index: u64, address: u64, len: u32, flags: u16, next: u16) -> Payload {
    let at = DESCRIPTORS + 16 * index;
    payload
        .store64(at, address)
        .store32(at + 8, len)
        .store16(at + 12, flags)
        .store16(at + 14, next)
}

/// Kinds of requests (virtio 1.3 §5.2.6).
pub(crate) const READ: u64 = 0;
pub(crate) const WRITE_OUT: u64 = 1;
pub(crate) const FLUSH: u64 = 4;

/// Has the device in slot 1 read so many bytes of the third sector, prints them and the status, and then that the message
/// has come.
pub(crate) fn read_with_message(len: usize) -> Payload {
    read_request(FIRST.with_message(Payload::new()), 2)
        .store16(FIRST.notify(), 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, len as u32)
        .print(" status ")
        .print_memory(STATUS, 1)
        .wait_bits32(MESSAGE_BIT.0, MESSAGE_BIT.1)
        .print(" interrupt")
}

/// The same with the first device over MMIO, and its interrupt status.
pub(crate) fn read_over_mmio(len: usize) -> Payload {
    let payload = Payload::new()
        .store32(MMIO + 0x70, 0)
        .store32(MMIO + 0x70, 3)
        .store32(MMIO + 0x24, 0)
        .store32(MMIO + 0x20, 0)
        .store32(MMIO + 0x24, 1)
        .store32(MMIO + 0x20, 1)
        .store32(MMIO + 0x70, 0xb)
        .store32(MMIO + 0x30, 0)
        .store32(MMIO + 0x38, 8)
        .store64(MMIO + 0x80, DESCRIPTORS)
        .store64(MMIO + 0x90, AVAILABLE)
        .store64(MMIO + 0xa0, USED)
        .store32(MMIO + 0x44, 1)
        .store32(MMIO + 0x70, 0xf);
    read_request(payload, 2)
        .store32(MMIO + 0x50, 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, len as u32)
        .print(" status ")
        .print_memory(STATUS, 1)
        .wait_bits32(MMIO + 0x60, 1)
        .print(" interrupt")
}

/// The disk is read once somebody has typed something.
pub(crate) fn read_when_told(len: usize) -> Payload {
    let payload = FIRST.set_up(Payload::new()).print("waiting\n").wait_for_input();
    read_request(payload, 2)
        .store16(FIRST.notify(), 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, len as u32)
        .power_off()
}

/// Puts a request to read one sector into the queue, as its first.
pub(crate) fn read_request(payload: Payload, sector: u64) -> Payload {
    request(payload, READ, sector, 1)
}

/// Puts the n-th request into the queue, about one sector. The one before has to be done.
pub(crate) fn request(payload: Payload, kind: u64, sector: u64, nth: u16) -> Payload {
    let payload = payload
        .store64(HEADER, kind)
        .store64(HEADER + 8, sector)
        .store8(STATUS, 0xff);
    let payload = match kind {
        FLUSH => descriptor(payload, 0, HEADER, 16, NEXT, 2),
        _ => {
            let flags = if kind == READ { NEXT | WRITE } else { NEXT };
            let payload = descriptor(payload, 0, HEADER, 16, NEXT, 1);
            descriptor(payload, 1, DATA, 512, flags, 2)
        }
    };
    // The ring has 8 entries.
    descriptor(payload, 2, STATUS, 1, WRITE, 0)
        .store16(AVAILABLE + 4 + 2 * u64::from((nth - 1) % 8), 0)
        .store16(AVAILABLE + 2, nth)
}

/// Puts the same request into a packed queue, and waits for its end: AVAIL and USED are set, as the ring was passed no
/// time yet, and WRITE because the device wrote (§2.8.1, §2.8.4).
pub(crate) fn read_packed(payload: Payload, disk: PciDevice, sector: u64) -> Payload {
    const AVAIL: u16 = 1 << 7;
    const USED: u16 = 1 << 15;
    let mut payload = payload
        .store64(HEADER, 0)
        .store64(HEADER + 8, sector)
        .store8(STATUS, 0xff);
    let parts = [(HEADER, 16, NEXT), (DATA, 512, NEXT | WRITE), (STATUS, 1, WRITE)];
    for (index, (address, len, flags)) in (0_u32..3).zip(parts).rev() {
        let at = DESCRIPTORS + 16 * u64::from(index);
        // The id comes before the flags, and the first descriptor last.
        payload = payload
            .store64(at, address)
            .store32(at + 8, len)
            .store16(at + 12, 0x1234)
            .store16(at + 14, flags | AVAIL);
    }
    payload
        .store16(disk.notify(), 0)
        .wait16(DESCRIPTORS + 14, AVAIL | USED | WRITE)
}

/// A disk whose third sector says something.
pub(crate) fn disk(text: &str) -> Vec<u8> {
    let mut disk = vec![b'-'; 8 * 512];
    disk[2 * 512..2 * 512 + text.len()].copy_from_slice(text.as_bytes());
    disk
}
