//! Devices that come and go while the VM lives: what a client asks for, and what the guest sees of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use common::disk_driver::{DATA, USED, disk, read_request};
use common::payload::Payload;
use common::pci_driver::{FIRST, PciDevice};
use common::vm::{Spec, eventually, has_kvm};
use serde_json::{Value, json};
use vmm::client::{Client, ClientError};
use vmm::control::state::DeviceState;

/// Registers of the PCI slots: units that came, that are to go, and that the guest lets go of.
const ADDED: u16 = 0x614;
const WANTED: u16 = 0x618;
const EJECT: u16 = 0x61c;

fn add(client: &Client, document: Value, files: &[BorrowedFd<'_>]) -> Result<Value, ClientError> {
    client.call("POST", "/devices", Some(&document), files)
}

fn remove(client: &Client, path: &str) -> Result<Value, ClientError> {
    client.call("DELETE", &format!("/devices/{path}"), None, &[])
}

fn refusal(result: Result<Value, ClientError>) -> (u16, String) {
    match result {
        Err(ClientError::Refused { status, message, .. }) => (status, message),
        other => panic!("{other:?}"),
    }
}

/// Whether nobody else holds the file: disks are locked while a VM has them.
fn is_free(path: &std::path::Path) -> bool {
    let file = File::open(path).unwrap();
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).is_ok()
}

fn ids(client: &Client) -> Vec<String> {
    client
        .devices()
        .unwrap()
        .into_iter()
        .map(|device| device.id)
        .collect()
}

#[test]
fn a_disk_comes_is_used_and_goes_while_the_guest_runs() {
    if !has_kvm() {
        return;
    }
    let text = "a sector of a new disk";
    // Slot 1 has the panic device. The payload does what ACPI's methods and drivers do.
    let new = PciDevice::new(2, 1);
    let payload = Payload::new().print("up\n").wait_port32(ADDED, 1 << 2);
    let payload = read_request(new.set_up(payload), 2)
        .store16(new.notify(), 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, text.len() as u32)
        .print("\n")
        .wait_port32(WANTED, 1 << 2)
        .store8(new.bar + 20, 0)
        .print("letting go\n")
        .out32(EJECT, 1 << 2)
        // Where nothing is, all bits are set.
        .wait16(new.config, 0xffff)
        .wait16(new.bar, 0xffff)
        .print("gone\n")
        .wait_port32(ADDED, 1 << 2)
        .wait16(new.config, 0x1af4)
        .print("back\n")
        .forever();
    let spec = if nix::unistd::geteuid().is_root() {
        Spec::new(&payload).set("sandbox", json!({"uid": 54321, "gid": 54322}))
    } else {
        Spec::new(&payload)
    };
    let path = spec.file("disk", &disk(text));
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("up");
    let before = client.metrics().unwrap();
    let added = add(
        &client,
        json!({"disk": {"id": "new", "path": "fd:0"}}),
        &[file.as_fd()],
    )
    .unwrap();
    assert_eq!(
        added,
        json!({"id": "new", "kind": "block", "address": "0000:00:02.0", "state": "present"})
    );
    drop(file);
    assert!(!is_free(&path), "the VM has it");
    vm.wait_for(text);
    assert_eq!(client.config().unwrap().disks[0].id, "new");
    assert_eq!(client.metrics().unwrap().devices.len(), before.devices.len() + 1);

    assert_eq!(remove(&client, "new").unwrap(), json!({"state": "removing"}));
    vm.wait_for("gone");
    eventually("the end of the removal", || {
        (!ids(&client).contains(&"new".to_owned())).then_some(())
    });
    assert!(is_free(&path), "nobody has it any more");
    assert!(client.config().unwrap().disks.is_empty());
    assert_eq!(refusal(remove(&client, "new")).0, 404);

    let file = File::open(&path).unwrap();
    let again = json!({"disk": {"id": "new", "path": "fd:0", "read_only": true}});
    let added = add(&client, again, &[file.as_fd()]).unwrap();
    assert_eq!(added["address"], "0000:00:02.0");
    vm.wait_for("back");
    client.stop().unwrap();
    let ended = vm.end();
    assert_eq!(
        ended.console,
        format!("up\n{text}\nletting go\ngone\nback\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_device_that_is_pulled_out_is_gone_at_once_and_its_slot_waits_for_the_guest() {
    if !has_kvm() {
        return;
    }
    let disk_at = FIRST;
    let payload = disk_at
        .set_up(Payload::new())
        .print("up\n")
        .wait_port32(WANTED, 1 << 1)
        .wait16(disk_at.config, 0xffff)
        // What a driver waits for after a reset.
        .store8(disk_at.bar + 20, 0)
        .wait16(disk_at.bar + 20, 0)
        .print("missed\n")
        .wait_port32(ADDED, 1 << 3)
        .out32(EJECT, 1 << 1)
        .print("cleaned up\n")
        .wait_port32(ADDED, 1 << 1)
        .print("and back\n")
        .forever();
    let mut spec = Spec::new(&payload);
    let path = spec.file("disk", &disk(""));
    spec = spec.set("disks", json!([{"id": "root", "path": path, "read_only": true}]));
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("up");
    // A guest that does not listen holds up nothing but its own device.
    assert_eq!(remove(&client, "root").unwrap(), json!({"state": "removing"}));
    let state = client.devices().unwrap()[0].state;
    assert_eq!(state, DeviceState::Removing);
    assert_eq!(
        remove(&client, "root?force=true").unwrap(),
        json!({"state": "removed"})
    );
    assert_eq!(ids(&client), ["serial"]);
    assert!(is_free(&path));
    vm.wait_for("missed");
    let file = File::open(&path).unwrap();
    let document = |id: &str| json!({"disk": {"id": id, "path": "fd:0", "read_only": true}});
    let added = add(&client, document("root"), &[file.as_fd()]).unwrap();
    assert_eq!(added["address"], "0000:00:03.0", "slot 2 has the panic device");
    vm.wait_for("cleaned up");
    let added = add(&client, document("second"), &[file.as_fd()]).unwrap();
    assert_eq!(added["address"], "0000:00:01.0");
    vm.wait_for("and back");
}

#[test]
fn devices_come_and_go_before_the_start_too() {
    if !has_kvm() {
        return;
    }
    let text = "added before the start";
    let new = PciDevice::new(2, 1);
    let payload = read_request(new.set_up(Payload::new()), 2)
        .store16(new.notify(), 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, text.len() as u32)
        .power_off();
    let spec = Spec::new(&payload).set("autostart", false.into());
    let path = spec.file("disk", &disk(text));
    let mut vm = spec.start();
    let client = vm.client();
    for _ in 0..3 {
        let file = File::open(&path).unwrap();
        let document = json!({"disk": {"id": "root", "path": "fd:0", "read_only": true}});
        add(&client, document, &[file.as_fd()]).unwrap();
        assert_eq!(remove(&client, "root").unwrap(), json!({"state": "removed"}));
        assert_eq!(ids(&client), ["serial"]);
    }
    let listener = vmm_listener(&vm.spec.folder.path().join("vsock"));
    let vsock = json!({"vsock": {"cid": 3, "socket": "fd:0"}});
    add(&client, vsock.clone(), &[listener.as_fd()]).unwrap();
    let (status, message) = refusal(add(&client, vsock, &[listener.as_fd()]));
    assert!(status == 400 && message.contains("one at most"), "{message}");
    remove(&client, "vsock").unwrap();
    let file = File::open(&path).unwrap();
    let document = json!({"disk": {"id": "root", "path": "fd:0", "read_only": true}});
    add(&client, document, &[file.as_fd()]).unwrap();
    client.start().unwrap();
    let ended = vm.end();
    assert_eq!(ended.console, text, "{}", ended.stderr);
}

fn vmm_listener(path: &std::path::Path) -> std::os::unix::net::UnixListener {
    std::os::unix::net::UnixListener::bind(path).unwrap()
}

#[test]
fn what_cannot_be_added_is_refused_with_the_reason_and_leaves_nothing_behind() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().forever()).set("rng", true.into());
    let path = spec.file("disk", &disk(""));
    let mut vm = spec.start();
    let client = vm.client();
    let file = File::open(&path).unwrap();
    let good = json!({"disk": {"id": "a", "path": "fd:0", "read_only": true}});
    add(&client, good.clone(), &[file.as_fd()]).unwrap();
    let open = || {
        std::fs::read_dir(format!("/proc/{}/fd", vm.process.id()))
            .unwrap()
            .count()
    };
    let before = open();
    let null = File::open("/dev/null").unwrap();
    for (document, status, words) in [
        (good, 400, "another device has this id"),
        (
            json!({"disk": {"id": "b", "path": "fd:1"}}),
            400,
            "the first is fd:0",
        ),
        (
            json!({"disk": {"id": "b", "path": "fd:0"}}),
            400,
            "not open for writing",
        ),
        (
            json!({"disk": {"id": "b", "path": path}}),
            400,
            "opens nothing by itself",
        ),
        (
            json!({"net": {"id": "b", "tap": "tap0", "mac": "10:66:6a:00:00:01"}}),
            400,
            "descriptor",
        ),
        (
            json!({"disk": {"id": "b", "path": "fd:0", "colour": 1}}),
            400,
            "colour",
        ),
        (
            json!({"disk": {"id": "rng", "path": "fd:0"}}),
            400,
            "another device has this id",
        ),
        (json!({"floppy": {"id": "b"}}), 400, "floppy"),
        (json!(["disk"]), 400, "not valid"),
        (
            json!({"net": {"id": "b", "fd": 0, "mac": "10:66:6a:00:00:01"}}),
            400,
            "net",
        ),
        (
            json!({"vsock": {"cid": 3, "socket": "fd:0"}}),
            400,
            "no socket that listens",
        ),
    ] {
        let (got, message) = refusal(add(&client, document.clone(), &[null.as_fd()]));
        assert_eq!(got, status, "{document}: {message}");
        assert!(message.contains(words), "{document}: {message}");
    }
    assert_eq!(
        open(),
        before,
        "everything that came with refused requests is closed"
    );
    assert_eq!(ids(&client), ["rng", "a", "serial"]);
    let (status, message) = refusal(remove(&client, "rng"));
    assert!(
        status == 409 && message.contains("cannot be removed"),
        "{message}"
    );
    // The number of devices is bounded.
    let mut added = 1;
    let message = loop {
        let document = json!({"disk": {"id": format!("d{added}"), "path": "fd:0", "read_only": true}});
        match add(&client, document, &[file.as_fd()]) {
            Ok(_) => added += 1,
            Err(error) => break error.to_string(),
        }
        assert!(added < 32);
    };
    assert!(message.contains("at most 24"), "{message}");
    assert_eq!(added, 24);
}

#[test]
fn a_machine_without_pci_says_why_nothing_can_be_added() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().forever()).set("transport", "mmio".into());
    let path = spec.file("disk", &disk(""));
    let mut vm = spec.start();
    let client = vm.client();
    let file = File::open(&path).unwrap();
    let document = json!({"disk": {"id": "a", "path": "fd:0", "read_only": true}});
    let (status, message) = refusal(add(&client, document, &[file.as_fd()]));
    assert!(
        status == 409 && message.contains("\"transport\": \"pci\""),
        "{message}"
    );
}
