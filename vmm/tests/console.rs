//! Ports of the virtio console in a VM that is confined.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use common::payload::Payload;
use common::pci_driver::FIRST;
use common::vm::{Spec, eventually, has_kvm};
use serde_json::json;
use vmm::client::ClientError;

/// Each queue has a page for each of its three parts, and one for its buffer.
const QUEUES: u64 = 0x30_0000;
const CONTROL_TRANSMIT: u64 = 3;
const AGENT_RECEIVE: u64 = 4;
const AGENT_TRANSMIT: u64 = 5;

fn part(queue: u64, nth: u64) -> u64 {
    QUEUES + queue * 0x4000 + nth * 0x1000
}

/// Makes the first `len` bytes of the queue's buffer available for the `nth` time, and waits until they are used.
fn submit(payload: Payload, queue: u64, len: u32, writable: bool, nth: u16) -> Payload {
    payload
        .store64(part(queue, 0), part(queue, 3))
        .store32(part(queue, 0) + 8, len)
        .store32(part(queue, 0) + 12, if writable { 2 } else { 0 })
        .store16(part(queue, 1) + 2, nth)
        .store16(FIRST.notify() + 4 * queue, queue as u16)
        .wait16(part(queue, 2) + 2, nth)
}

/// Tells the device something of the second port.
fn tell(payload: Payload, event: u16, nth: u16) -> Payload {
    let message = part(CONTROL_TRANSMIT, 3);
    let payload = payload.store32(message, 1).store16(message + 4, event);
    submit(payload.store16(message + 6, 1), CONTROL_TRANSMIT, 8, false, nth)
}

/// A driver that opens the second port, waits for five bytes there, prints and answers them.
fn echo() -> Payload {
    let mut payload = FIRST.negotiate(Payload::new(), 3, 1);
    for number in 0..6 {
        payload = FIRST.queue(payload, number, [0, 1, 2].map(|nth| part(number.into(), nth)));
    }
    let payload = FIRST.driver_ok(payload);
    let payload = tell(tell(payload, 3, 1), 6, 2);
    let payload = submit(payload.print("open"), AGENT_RECEIVE, 5, true, 1);
    let payload = payload.print_memory(part(AGENT_RECEIVE, 3), 5);
    let payload = payload.store_text(part(AGENT_TRANSMIT, 3), "heard");
    submit(payload, AGENT_TRANSMIT, 5, false, 1)
        .print("done")
        .forever()
}

fn with_ports(spec: Spec, ports: serde_json::Value) -> Spec {
    spec.set("console", true.into()).set("console_ports", ports)
}

#[test]
fn a_client_of_a_port_talks_to_a_confined_guest() {
    if !has_kvm() {
        return;
    }
    let sandbox = match nix::unistd::geteuid().is_root() {
        true => json!({"uid": 54331, "strict": true}),
        false => json!({}),
    };
    let ports = json!([{"name": "org.example.agent.0", "socket": "agent.sock"}]);
    let spec = with_ports(Spec::new(&echo()), ports).set("sandbox", sandbox);
    let mut vm = spec.start_alone();
    vm.wait_for("open");
    let path = vm.run_dir().join("agent.sock");
    let mut agent = UnixStream::connect(&path).unwrap();
    agent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    agent.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    agent.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"heard");
    vm.wait_for("done");
    let client = vm.client();
    let counters = client.metrics().unwrap().devices["console"].clone();
    assert_eq!(
        counters,
        json!({"bytes_in": 5, "bytes_out": 5, "bytes_lost": 0, "clients": 1})
    );
    client.stop().unwrap();
    let ended = vm.end();
    assert!(ended.console.contains("hello"), "{}", ended.console);
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_port_takes_a_socket_that_somebody_else_made() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&echo());
    let path = spec.folder.path().join("elsewhere.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let flags = nix::fcntl::FdFlag::empty();
    nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_SETFD(flags)).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&listener);
    let ports = json!([{"name": "agent", "socket": format!("fd:{number}")}]);
    let mut vm = with_ports(spec, ports).start();
    drop(listener);
    let mut agent = UnixStream::connect(&path).unwrap();
    agent.write_all(b"hello").unwrap();
    vm.wait_for("done");
    vm.client().stop().unwrap();
    vm.end();
}

#[test]
fn terminals_have_sizes_and_channels_have_none() {
    if !has_kvm() {
        return;
    }
    let ports = json!([
        {"name": "agent", "socket": "agent.sock"},
        {"name": "second", "socket": "second.sock", "terminal": true},
    ]);
    let mut vm = with_ports(Spec::new(&Payload::new().forever()), ports).start();
    let client = vm.client();
    for update in [
        json!({"columns": 132, "rows": 50}),
        json!({"port": "second", "columns": 100, "rows": 40}),
    ] {
        let answer = client.update_device("console", &update).unwrap();
        assert_eq!(answer["columns"], update["columns"]);
    }
    let refusal = client.update_device("console", &json!({"port": "agent", "columns": 1, "rows": 1}));
    match refusal {
        Err(ClientError::Refused {
            status: 409, message, ..
        }) => {
            assert!(message.contains("no terminal \"agent\""), "{message}");
        }
        other => panic!("{other:?}"),
    }
    eventually("the sockets", || {
        vm.run_dir().join("second.sock").exists().then_some(())
    });
    client.stop().unwrap();
    vm.end();
}

#[test]
fn ports_that_cannot_be_are_refused() {
    let port = |name: &str| json!({"name": name, "socket": format!("{name}.sock")});
    let many: Vec<_> = (0..16).map(|number| port(&format!("p{number}"))).collect();
    for (console, ports, reason) in [
        (false, json!([port("a")]), "`console` is false"),
        (true, json!([port("a"), port("a")]), "another port has this name"),
        (true, json!([port("a/b")]), "use 1 to 64 letters"),
        (
            true,
            json!([{"name": "a", "socket": "fd:x"}]),
            "console_ports[0].socket",
        ),
        (true, json!(many), "at most 15"),
    ] {
        let spec = Spec::new(&Payload::new())
            .set("console", console.into())
            .set("console_ports", ports);
        let output = spec.command(&["--validate"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}
