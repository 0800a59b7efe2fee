//! Linux' driver on network cards that others serve: the host's kernel, and `virga-vhost-user` with our own VMM as its front
//! end. The host's end is a tap in a network of the test's own.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use end_to_end::{BACK_END_USER, BackEnd, Guest, virtual_machines_run_here};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

/// Bytes of a bulk transfer: enough for segments to grow, little enough for an emulated processor.
const BULK: usize = 4 << 20;
const MAC: &str = "10:66:6a:00:00:01";

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {words}");
}

/// Tells a story in a network of its own, which has a tap with the address 10.80.0.1.
fn in_own_network(test: &'static str, story: impl FnOnce() + Send + 'static) {
    if !virtual_machines_run_here(test) {
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        ip("tuntap add dev tap0 mode tap");
        ip("address add 10.80.0.1/24 dev tap0");
        ip("link set tap0 up");
        story();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Brings the card up, and sends back what is received.
const SCRIPT: &str = "ip link set eth0 up; ip address add 10.80.0.2/24 dev eth0
    ping -c 2 -W 10 10.80.0.1
    nc 10.80.0.1 5000 </dev/null >/in; nc 10.80.0.1 5000 </in";

/// Sends data to the guest, and has it sent back.
fn exchange(listener: &TcpListener) {
    let data: Vec<u8> = (0..BULK).map(|index| (index * 7 / 5) as u8).collect();
    let (mut to_guest, _) = listener.accept().expect("a connection");
    to_guest.write_all(&data).expect("send to the guest");
    // The guest goes on when its connections are closed.
    drop(to_guest);
    let (mut from_guest, _) = listener.accept().expect("a connection");
    let mut back = Vec::new();
    from_guest.read_to_end(&mut back).expect("receive from the guest");
    assert!(back == data, "{} bytes came back, or others", back.len());
}

#[test]
fn linux_moves_data_by_the_hosts_kernel() {
    in_own_network("linux_moves_data_by_the_hosts_kernel", || {
        let _ = Command::new("modprobe").arg("vhost_net").status();
        if !Path::new("/dev/vhost-net").exists() {
            eprintln!("skipped: the host has no vhost-net");
            return;
        }
        let listener = TcpListener::bind("10.80.0.1:5000").expect("listen");
        let mut guest = Guest::start(&format!("{SCRIPT}\necho moved; sleep 1000"), |config| {
            config["nets"] = json!([{"id": "eth0", "tap": "tap0", "mac": MAC, "vhost": true}]);
        });
        exchange(&listener);
        guest.wait_for("moved");
        let console = guest.console();
        assert!(console.contains("2 packets received"), "{console}");
        let metrics = guest.client().metrics().expect("metrics").devices["eth0"].clone();
        // No interrupt took the way through the VMM.
        assert_eq!(
            (&metrics["relayed_interrupts"], &metrics["queue_errors"]),
            (&json!(0), &json!(0))
        );
    });
}

#[test]
fn linux_moves_data_by_a_back_end_that_dies_and_returns() {
    in_own_network("linux_moves_data_by_a_back_end_that_dies_and_returns", || {
        let folder = tempfile::tempdir().expect("a scratch directory");
        let device = json!({"net": {"id": "eth0", "tap": "tap0", "mac": MAC}});
        let back_end = BackEnd::start(folder.path(), &device);
        let listener = TcpListener::bind("10.80.0.1:5000").expect("listen");
        let script = format!("{SCRIPT}\nnc -l -p 6000 & echo waiting; wait; echo ended; poweroff -f");
        let mut guest = Guest::start(&script, |config| {
            config["memory"] = json!({"shared": true});
            config["sandbox"] = json!({"uid": BACK_END_USER});
            let socket = BackEnd::socket(folder.path());
            config["nets"] = json!([{"id": "eth0", "mac": MAC, "vhost_user": socket}]);
        });
        exchange(&listener);
        guest.wait_for("waiting");

        let client = guest.client();
        let metrics = || client.metrics().expect("metrics").devices["eth0"].clone();
        drop(back_end);
        guest.until("the loss", |_| (metrics()["disconnects"] == 1).then_some(()));
        let _next = BackEnd::start(folder.path(), &device);
        guest.until("the return", |_| (metrics()["reconnects"] == 1).then_some(()));
        let mut late = guest.until("a connection", |_| TcpStream::connect("10.80.0.2:6000").ok());
        late.write_all(b"after the death").expect("send to the guest");
        drop(late);
        guest.wait_for("ended");
        let console = guest.console();
        assert!(console.contains("2 packets received"), "{console}");
        assert!(console.contains("after the death"), "{console}");
    });
}
