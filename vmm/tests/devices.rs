//! Virtio devices driven by payload guests, over PCI and over MMIO.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::json;

/// First BAR that the bus places, of the device in slot 1.
const BAR: u64 = 0xc000_0000;
const NOTIFY: u64 = BAR + 0x3000;
const MSIX_TABLE: u64 = BAR + 0x4000;
/// Configuration space of slot 1.
const CONFIG: u64 = 0xe000_0000 + (1 << 15);
/// First virtio-mmio device.
const MMIO: u64 = 0xe800_0000;
const LOCAL_APIC: u64 = 0xfee0_0000;

/// Queue, request and buffer in guest memory.
const DESCRIPTORS: u64 = 0x30_0000;
const AVAILABLE: u64 = 0x30_1000;
const USED: u64 = 0x30_2000;
const HEADER: u64 = 0x30_3000;
const DATA: u64 = 0x30_4000;
const STATUS: u64 = 0x30_5000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

trait Driver {
    fn descriptor(self, index: u64, address: u64, len: u32, flags: u16, next: u16) -> Self;
    fn read_request(self, sector: u64) -> Self;
}

impl Driver for Payload {
    fn descriptor(self, index: u64, address: u64, len: u32, flags: u16, next: u16) -> Self {
        let at = DESCRIPTORS + 16 * index;
        self.store64(at, address)
            .store32(at + 8, len)
            .store16(at + 12, flags)
            .store16(at + 14, next)
    }

    /// Puts a request for one sector into the queue (virtio 1.3 §5.2.6).
    fn read_request(self, sector: u64) -> Self {
        self.store64(HEADER, 0)
            .store64(HEADER + 8, sector)
            .store8(STATUS, 0xff)
            .descriptor(0, HEADER, 16, NEXT, 1)
            .descriptor(1, DATA, 512, NEXT | WRITE, 2)
            .descriptor(2, STATUS, 1, WRITE, 0)
            .store16(AVAILABLE + 4, 0)
            .store16(AVAILABLE + 2, 1)
    }
}

/// A disk whose third sector says something.
fn disk(text: &str) -> Vec<u8> {
    let mut disk = vec![b'-'; 8 * 512];
    disk[2 * 512..2 * 512 + text.len()].copy_from_slice(text.as_bytes());
    disk
}

/// Sets up a block device over PCI: bus mastering, features, one queue with a message, driver ready.
fn pci_driver() -> Payload {
    Payload::new()
        .store16(CONFIG + 4, 6)
        .store8(BAR + 20, 0)
        .store8(BAR + 20, 3)
        .store32(BAR + 8, 0)
        .store32(BAR + 12, 0)
        .store32(BAR + 8, 1)
        .store32(BAR + 12, 1)
        .store8(BAR + 20, 0xb)
        .store16(BAR + 22, 0)
        .store16(BAR + 24, 8)
        .store16(BAR + 26, 1)
        .store64(BAR + 32, DESCRIPTORS)
        .store64(BAR + 40, AVAILABLE)
        .store64(BAR + 48, USED)
        .store16(BAR + 28, 1)
        .store8(BAR + 20, 0xf)
}

#[test]
fn a_guest_reads_a_disk_over_pci_and_gets_a_message() {
    if !has_kvm() {
        return;
    }
    let text = "a sector read over PCI";
    // Vector 1 of the device is vector 0x41 of the local APIC, which is switched on to collect it.
    let payload = pci_driver()
        .store32(LOCAL_APIC + 0xf0, 0x1ff)
        .store32(MSIX_TABLE + 16, 0xfee0_0000)
        .store32(MSIX_TABLE + 20, 0)
        .store32(MSIX_TABLE + 24, 0x41)
        .store32(MSIX_TABLE + 28, 0);
    // The message control word is two bytes after the capability, which is found in the list like a driver does:
    // the test reads its place from the device instead, to keep the payload short.
    let capability = msix_capability();
    let payload = payload
        .store16(CONFIG + u64::from(capability) + 2, 0x8000)
        .read_request(2)
        .store16(NOTIFY, 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, text.len() as u32)
        .print(" status ")
        .print_memory(STATUS, 1)
        .wait_bits32(LOCAL_APIC + 0x220, 1 << 1)
        .print(" interrupt")
        .power_off();
    let mut spec = Spec::new(&payload);
    let path = spec.file("disk", &disk(text));
    spec = spec.set("disks", json!([{"id": "root", "path": path}]));
    let ended = spec.run_to_end();
    assert_eq!(
        ended.console,
        format!("{text} status \0 interrupt"),
        "{}",
        ended.stderr
    );
}

/// Where virtio-pci devices have their MSI-X capability: the transport lays out all devices alike.
fn msix_capability() -> u8 {
    // Walks the list in a payload that prints one byte for each capability: its id, then its offset.
    let mut payload = Payload::new();
    // mov rbx, config; movzx ecx, byte [rbx + 0x34]; mov dx, 0x3f8
    payload = payload
        .at(CONFIG)
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
    capabilities.iter().find(|[id, _]| *id == 0x11).unwrap()[1]
}

#[test]
fn a_guest_reads_a_disk_over_mmio() {
    if !has_kvm() {
        return;
    }
    let text = "a sector read over MMIO";
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
        .store32(MMIO + 0x70, 0xf)
        .read_request(2)
        .store32(MMIO + 0x50, 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, text.len() as u32)
        .wait_bits32(MMIO + 0x60, 1)
        .print(" interrupt")
        .power_off();
    let mut spec = Spec::new(&payload).set("transport", "mmio".into());
    let path = spec.file("disk", &disk(text));
    spec = spec.set("disks", json!([{"id": "root", "path": path, "read_only": true}]));
    let ended = spec.run_to_end();
    assert_eq!(ended.console, format!("{text} interrupt"), "{}", ended.stderr);
}

#[test]
fn devices_go_on_after_a_pause() {
    if !has_kvm() {
        return;
    }
    let text = "read after a pause";
    // The driver is ready, then waits for a byte on the serial port before it asks the disk.
    let payload = pci_driver()
        .read_request(2)
        .print("waiting\n")
        .raw(&[0x66, 0xba, 0xfd, 3, 0xec, 0xa8, 1, 0x74, 0xf7])
        .store16(NOTIFY, 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, text.len() as u32)
        .power_off();
    let mut spec = Spec::new(&payload);
    let path = spec.file("disk", &disk(text));
    spec = spec.set("disks", json!([{"id": "root", "path": path}]));
    let mut vm = spec.start();
    let client = vm.client();
    let mut console = vm.console();
    vm.wait_for("waiting");
    for _ in 0..3 {
        client.pause().unwrap();
        client.resume().unwrap();
    }
    std::io::Write::write_all(&mut console, b"x").unwrap();
    let ended = vm.end();
    assert_eq!(ended.console, format!("waiting\n{text}"), "{}", ended.stderr);
}

#[test]
fn every_kind_of_device_is_listed_where_the_guest_finds_it() {
    if !has_kvm() {
        return;
    }
    for (transport, first) in [("pci", "0000:00:01.0"), ("mmio", "0xe8000000")] {
        let mut spec = Spec::new(&Payload::new().forever()).set("transport", transport.into());
        let path = spec.file("disk", &[0; 512]);
        spec = spec
            .set("disks", json!([{"id": "root", "path": path}]))
            .set("vsock", json!({"cid": 3, "socket": "vsock.sock"}))
            .set("rng", true.into())
            .set("console", true.into());
        let mut vm = spec.start();
        let client = vm.client();
        let devices = client.devices().unwrap();
        let kinds: Vec<_> = devices.iter().map(|device| device.kind.as_str()).collect();
        assert_eq!(kinds, ["block", "vsock", "rng", "console", "serial"]);
        assert_eq!(devices[0].address, first);
        assert_eq!(client.metrics().unwrap().devices.len(), 4);
        client.stop().unwrap();
        vm.end();
    }
}
