//! Processors that come and go while the VM lives.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::payload::Payload;
use common::vm::{Spec, eventually, has_kvm};
use serde_json::json;
use vmm::client::{Client, ClientError};

/// Registers of the processors: those that are there, came, are to go, and that the guest lets go of.
const PRESENT: u16 = 0x620;
const ADDED: u16 = 0x624;
const WANTED: u16 = 0x628;
const EJECT: u16 = 0x62c;

fn set(client: &Client, count: u8) -> Result<serde_json::Value, ClientError> {
    client.call("PUT", "/vcpus", Some(&json!({"count": count})), &[])
}

fn threads(pid: u32) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let names =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("vcpu")).count()
}

#[test]
fn processors_come_and_go_as_the_guest_follows() {
    if !has_kvm() {
        return;
    }
    let payload = Payload::new()
        .print("up\n")
        .wait_port32(ADDED, 0b1110)
        .wait_port32(PRESENT, 0b1111)
        .print("four\n")
        .wait_port32(WANTED, 0b1100)
        .out32(EJECT, 0b1100)
        .wait_port32(PRESENT, 0b0011)
        .print("two\n")
        .wait_port32(ADDED, 0b0100)
        .print("three\n")
        .forever();
    let mut spec = Spec::new(&payload).set("cpu", json!({"max": 4}));
    if nix::unistd::geteuid().is_root() {
        spec = spec.set("sandbox", json!({"uid": 54321, "gid": 54322}));
    }
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("up");
    assert_eq!((client.state().unwrap().vcpus, threads(vm.process.id())), (1, 1));
    assert_eq!(set(&client, 4).unwrap(), json!({"count": 4}));
    vm.wait_for("four");
    // A thread names itself, a moment after it was started.
    eventually("four threads", || (threads(vm.process.id()) == 4).then_some(()));
    client.pause().unwrap();
    client.resume().unwrap();
    set(&client, 2).unwrap();
    vm.wait_for("two");
    eventually("two processors", || {
        (client.state().unwrap().vcpus == 2).then_some(())
    });
    set(&client, 3).unwrap();
    vm.wait_for("three");
    assert_eq!(
        threads(vm.process.id()),
        4,
        "the thread of one that was let go of is used again"
    );
    assert_eq!(client.metrics().unwrap().vcpus.len(), 4);
    client.stop().unwrap();
    assert_eq!(vm.end().status, Some(5));
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().print("up").wait_port32(PRESENT, 1).power_off());
    let mut vm = spec
        .set("cpu", json!({"max": 2}))
        .set("autostart", false.into())
        .start();
    let client = vm.client();
    for count in [0, 3] {
        let message = set(&client, count).unwrap_err().to_string();
        assert!(message.contains("can have 1 to 2 vCPUs"), "{message}");
    }
    set(&client, 2).unwrap();
    assert_eq!(
        set(&client, 1).unwrap(),
        json!({"count": 1}),
        "before the start nobody is asked"
    );
    client.start().unwrap();
    assert_eq!(vm.end().status, Some(0));
}
