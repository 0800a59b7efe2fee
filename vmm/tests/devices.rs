//! Virtio devices driven by payload guests, over PCI and over MMIO.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::disk_driver::{
    DATA, DESCRIPTORS, disk, read_over_mmio, read_packed, read_when_told, read_with_message,
};
use common::payload::Payload;
use common::pci_driver::FIRST;
use common::vm::{Spec, has_kvm};
use serde_json::json;

#[test]
fn a_guest_reads_a_disk_over_pci_and_gets_a_message() {
    if !has_kvm() {
        return;
    }
    let text = "a sector read over PCI";
    let payload = read_with_message(text.len()).power_off();
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

#[test]
fn a_guest_reads_a_disk_by_a_packed_queue() {
    if !has_kvm() {
        return;
    }
    let text = "a sector read by a packed queue";
    // VIRTIO_F_VERSION_1 and VIRTIO_F_RING_PACKED.
    let payload = FIRST.set_up_with(Payload::new(), 1 << 2 | 1);
    let payload = read_packed(payload, FIRST, 2)
        .print_memory(DATA, text.len() as u32)
        .print(" id ")
        // 513 bytes were written for the request of this number.
        .print_memory(DESCRIPTORS + 8, 6)
        .power_off();
    let mut spec = Spec::new(&payload);
    let path = spec.file("disk", &disk(text));
    spec = spec.set("disks", json!([{"id": "root", "path": path}]));
    let ended = spec.run_to_end();
    assert_eq!(
        ended.console,
        format!("{text} id \u{1}\u{2}\0\0\u{34}\u{12}"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_guest_reads_a_disk_over_mmio() {
    if !has_kvm() {
        return;
    }
    let text = "a sector read over MMIO";
    let payload = read_over_mmio(text.len()).power_off();
    let mut spec = Spec::new(&payload).set("transport", "mmio".into());
    let path = spec.file("disk", &disk(text));
    spec = spec.set("disks", json!([{"id": "root", "path": path, "read_only": true}]));
    let ended = spec.run_to_end();
    assert_eq!(
        ended.console,
        format!("{text} status \0 interrupt"),
        "{}",
        ended.stderr
    );
}

#[test]
fn devices_go_on_after_a_pause() {
    if !has_kvm() {
        return;
    }
    let text = "read after a pause";
    let payload = read_when_told(text.len());
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
