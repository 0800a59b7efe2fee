//! The control socket as a client sees it: documents, refusals, descriptors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::payload::Payload;
use common::vm::{Spec, Vm, eventually, has_kvm};
use serde_json::{Value, json};
use vmm::client::{Client, ClientError};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// Status and words of a refusal.
fn refused(client: &Client, method: &str, path: &str, document: Option<Value>) -> (u16, String) {
    match client.call(method, path, document.as_ref(), &[]) {
        Err(ClientError::Refused { status, message, .. }) => (status, message),
        other => panic!("{method} {path}: {other:?}"),
    }
}

#[test]
fn requests_that_cannot_be_are_refused_with_what_can() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().forever())
        .set("rng", true.into())
        .start();
    let client = vm.client();
    let list = client.call("GET", "/", None, &[]).unwrap();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|route| route["path"] == "/devices/{id}"),
        "{list}"
    );
    let (status, message) = refused(&client, "GET", "/status", None);
    assert!(status == 404 && message.contains("GET /state"), "{message}");
    let (status, message) = refused(&client, "GET", "/pause", None);
    assert!(status == 405 && message.contains("use PUT"), "{message}");
    let (status, message) = refused(&client, "PUT", "/pause", Some(json!({"for": 3})));
    assert!(
        status == 400 && message.contains("takes no document"),
        "{message}"
    );
    let (status, message) = refused(&client, "PATCH", "/devices/root", Some(json!({})));
    assert!(status == 404 && message.contains("root"), "{message}");
    let (status, message) = refused(&client, "PATCH", "/devices/rng", Some(json!({"more": true})));
    assert!(
        status == 409 && message.contains("nothing that can be changed"),
        "{message}"
    );
    let (status, message) = refused(&client, "PATCH", "/devices/rng", None);
    assert!(status == 400 && message.contains("not valid"), "{message}");
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = client.call("PUT", "/pause", None, &[null.as_fd()]).unwrap_err();
    assert!(error.to_string().contains("takes no descriptors"), "{error}");
    let error = client
        .call("GET", "/state", None, &[null.as_fd(); 20])
        .unwrap_err();
    assert!(error.to_string().contains("too many descriptors"), "{error}");
    client.pause().unwrap();
}

/// A guest that prints dots forever.
fn busy_vm() -> Vm {
    let dots = [0xb0, b'.', 0x66, 0xba, 0xf8, 3, 0xee, 0xeb, 0xfd];
    Spec::new(&Payload::new().print("go").raw(&dots)).start()
}

fn dial(vm: &Vm) -> UnixStream {
    let stream = UnixStream::connect(vm.run_dir().join("control.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// What a client gets until the connection ends, however it does.
fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it is still open"),
        _ => bytes,
    }
}

/// The guest runs, and a client that does as it should is answered.
fn assert_well(vm: &Vm, client: &Client) {
    let printed = || client.metrics().unwrap().vcpus[0].count("io_out");
    let before = printed();
    let state = client.clone().with_timeout(Duration::from_secs(5)).state();
    assert_eq!(state.unwrap().pid, vm.process.id());
    eventually("the guest to print", || (printed() > before).then_some(()));
}

/// How many threads and descriptors the process has, and its memory besides the guest's in bytes.
fn sizes(vm: &Vm, client: &Client) -> (usize, usize, u64) {
    let entries = |what| std::fs::read_dir(format!("/proc/{}/{what}", vm.process.id())).unwrap();
    // KVM starts one of its own, `kvm-nx-lpage-recovery`, at some time.
    let names =
        entries("task").map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
    let threads = names.filter(|name| !name.starts_with("kvm-")).count();
    let memory = client.metrics().unwrap().overhead_bytes;
    (threads, entries("fd").count(), memory)
}

#[test]
fn clients_that_say_nothing_or_half_a_request_are_turned_away_after_a_while() {
    if !has_kvm() {
        return;
    }
    let mut vm = busy_vm();
    let client = vm.client();
    let (silent, mut half) = (dial(&vm), dial(&vm));
    half.write_all(b"PUT /stop HTTP/1.1\r\nContent-Length: 2\r\n\r\n{")
        .unwrap();
    assert_well(&vm, &client);
    assert_eq!(read_all(&silent), b"");
    assert_eq!(read_all(&half), b"");
    assert_well(&vm, &client);
}

#[test]
fn clients_that_do_not_read_or_ask_for_more_than_one_thing_hold_up_nobody() {
    if !has_kvm() {
        return;
    }
    let mut vm = busy_vm();
    let client = vm.client();
    let before = sizes(&vm, &client);
    // What is not understood is repeated in the answer, which makes it long.
    let long = "x".repeat(60_000);
    let body = format!("{{\"{long}\": 1}}");
    let long = format!(
        "PUT /vcpus HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let many = "GET /metrics HTTP/1.1\r\n\r\n".repeat(1000);
    let mut open = Vec::new();
    for _ in 0..100 {
        for text in [&long, &many] {
            let mut stream = dial(&vm);
            // Fails where the answer came, and the end of the connection with it, before all was sent.
            let _ = stream.write_all(text.as_bytes());
            open.push(stream);
        }
    }
    assert_well(&vm, &client);
    for (stream, status) in open.iter().zip(["400", "200"].into_iter().cycle()) {
        let answer = String::from_utf8(read_all(stream)).unwrap();
        let heads = answer.matches("HTTP/1.1 ").count();
        assert!(
            heads == 1 && answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    let after = sizes(&vm, &client);
    assert_eq!((after.0, after.1), (before.0, before.1));
    assert!(after.2 < before.2 + (8 << 20), "{before:?}, then {after:?}");
}

#[test]
fn a_crowd_of_clients_takes_a_bounded_part_of_the_process() {
    if !has_kvm() {
        return;
    }
    let mut vm = busy_vm();
    let client = vm.client();
    let before = sizes(&vm, &client);
    let null = std::fs::File::open("/dev/null").unwrap();
    let half = format!(
        "POST /devices HTTP/1.1\r\nContent-Length: 65536\r\n\r\n{}",
        " ".repeat(60_000)
    );
    let crowd: Vec<UnixStream> = (0..1000)
        .map(|_| {
            let mut stream = dial(&vm);
            // Fails for those who have been turned away by now.
            let _ = stream.send_with_fds(&[half.as_bytes()], &[null.as_raw_fd(); 16]);
            let _ = stream.flush();
            stream
        })
        .collect();
    assert_well(&vm, &client);
    let during = sizes(&vm, &client);
    assert_eq!(during.0, before.0, "threads");
    assert!(
        during.1 <= before.1 + 32 * 17,
        "descriptors: {before:?}, then {during:?}"
    );
    assert!(
        during.2 < before.2 + (16 << 20),
        "memory: {before:?}, then {during:?}"
    );
    drop(crowd);
    eventually("all descriptors to be closed", || {
        (sizes(&vm, &client).1 == before.1).then_some(())
    });
    assert_well(&vm, &client);
}
