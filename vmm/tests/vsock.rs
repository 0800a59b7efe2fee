//! The socket device of a VM that is confined: the guest still finds host programs beside `vsock.socket`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::os::unix::net::UnixListener;

use common::payload::Payload;
use common::pci_driver::FIRST;
use common::vm::{Spec, eventually, has_kvm};
use serde_json::json;

/// The transmit queue and its packet in guest memory.
const DESCRIPTORS: u64 = 0x30_0000;
const AVAILABLE: u64 = 0x30_1000;
const USED: u64 = 0x30_2000;
const PACKET: u64 = 0x30_3000;
const PORT: u32 = 4242;

/// A driver that asks the host for a connection to a port (virtio 1.3 §5.10.6).
fn dial() -> Payload {
    let payload = FIRST.negotiate(Payload::new(), 0, 1);
    let payload = FIRST.queue(payload, 1, [DESCRIPTORS, AVAILABLE, USED]);
    let mut payload = FIRST.driver_ok(payload);
    let packet = [3, 0, 2, 0, 1024, PORT, 0, 1 | 1 << 16, 0, 4096, 0];
    for (word, at) in packet.into_iter().zip((PACKET..).step_by(4)) {
        payload = payload.store32(at, word);
    }
    payload
        .store64(DESCRIPTORS, PACKET)
        .store32(DESCRIPTORS + 8, 44)
        .store32(DESCRIPTORS + 12, 0)
        .store16(AVAILABLE + 4, 0)
        .store16(AVAILABLE + 2, 1)
        .store16(FIRST.notify() + 4, 1)
        .wait16(USED + 2, 1)
        .print("asked")
        .forever()
}

#[test]
fn a_confined_guest_connects_to_a_host_program() {
    if !has_kvm() {
        return;
    }
    let sandbox = match nix::unistd::geteuid().is_root() {
        true => json!({"uid": 54330, "strict": true}),
        false => json!({}),
    };
    let spec = Spec::new(&dial())
        .set("vsock", json!({"cid": 3, "socket": "vsock.sock"}))
        .set("sandbox", sandbox)
        .set("autostart", false.into());
    let mut vm = spec.start_alone();
    let client = vm.client();
    // Made after the VM was confined, as host programs come and go.
    let path = vm.run_dir().join(format!("vsock.sock_{PORT}"));
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    listener.set_nonblocking(true).unwrap();
    client.start().unwrap();
    vm.wait_for("asked");
    eventually("the guest's connection", || listener.accept().ok());
    client.stop().unwrap();
    vm.end();
}
