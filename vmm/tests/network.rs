//! A network device driven by a payload guest, on a real tap in a network namespace that the test makes for itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use common::payload::Payload;
use common::pci_driver::FIRST;
use common::vm::{Spec, Vm, has_kvm};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

const STATUS: u64 = FIRST.bar + 0x2006;

/// Queues in guest memory, each with its descriptors, rings and buffer.
const QUEUES: u64 = 0x30_0000;
const DESCRIPTORS: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFER: u64 = 0x3000;
const QUEUE_SIZE: u64 = 0x8000;

/// The control queue of a card with two pairs.
const CONTROL: u64 = 4;
const WRITE: u16 = 2;
const NEXT: u16 = 1;

const PORT: u16 = 4000;

fn queue(number: u64) -> u64 {
    QUEUES + number * QUEUE_SIZE
}

trait Driver {
    fn bytes(self, address: u64, bytes: &[u8]) -> Self;
    fn offer(self, number: u64, entry: u16, pieces: &[(u64, u32, u16)]) -> Self;
}

impl Driver for Payload {
    /// Puts bytes into memory.
    fn bytes(mut self, address: u64, bytes: &[u8]) -> Self {
        for (at, byte) in (address..).zip(bytes) {
            self = self.store8(at, *byte);
        }
        self
    }

    /// Gives the device a chain of pieces as the queue's entry with this number, and notifies it.
    fn offer(mut self, number: u64, entry: u16, pieces: &[(u64, u32, u16)]) -> Self {
        for ((address, len, flags), index) in pieces.iter().zip(0_u16..) {
            let last = usize::from(index) + 1 == pieces.len();
            let at = queue(number) + DESCRIPTORS + 16 * u64::from(index);
            self = self
                .store64(at, *address)
                .store32(at + 8, *len)
                .store16(at + 12, flags | if last { 0 } else { NEXT })
                .store16(at + 14, index + 1);
        }
        let ring = queue(number) + AVAILABLE;
        self.store16(ring + 4 + 2 * u64::from(entry), 0)
            .store16(ring + 2, entry + 1)
            .store16(FIRST.notify() + 4 * number, number as u16)
    }
}

/// A driver of two pairs of queues, both in use: features CSUM, GUEST_CSUM, MAC, STATUS, CTRL_VQ, CTRL_RX, MQ, VERSION_1.
fn two_pairs() -> Payload {
    let features = 1 | 1 << 1 | 1 << 5 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 22;
    let mut payload = FIRST.negotiate(Payload::new(), features, 1);
    for number in 0..=CONTROL {
        let parts = [DESCRIPTORS, AVAILABLE, USED].map(|part| queue(number) + part);
        payload = FIRST.queue(payload, number as u16, parts);
    }
    payload = FIRST.driver_ok(payload);
    // Two pairs, and no frames for others: the host's link says this and that to groups of its own accord.
    let address = queue(CONTROL) + BUFFER;
    for (entry, command) in (0..).zip([&[4, 0, 2, 0][..], &[0, 0, 0]]) {
        let answer = address + command.len() as u64;
        payload = payload
            .bytes(address, &[command, &[0xff]].concat())
            .offer(
                CONTROL,
                entry,
                &[(address, command.len() as u32, 0), (answer, 1, WRITE)],
            )
            .wait16(queue(CONTROL) + USED + 2, entry + 1)
            .print_memory(answer, 1);
    }
    payload
}

/// A frame to everyone with an IPv4/UDP packet of the guest, whose checksum is left to the device.
fn frame(payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut ip = vec![
        0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 79, 0, 2, 10, 79, 0, 1,
    ];
    ip[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
    let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
    let sum = |bytes: &[u8]| -> u32 {
        let words = bytes
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        fold(fold(words.sum()))
    };
    let checksum = !sum(&ip) as u16;
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // What the device adds the rest to: addresses, protocol and length.
    let start = fold(sum(&ip[12..20]) + 17 + u32::from(udp_len)) as u16;
    let mut udp = vec![0x12, 0x34];
    udp.extend(PORT.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend(start.to_be_bytes());
    let header = [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0];
    let ethernet = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10, 0x66, 0x6a, 0, 0, 1, 8, 0,
    ];
    [&header[..], &ethernet, &ip, &udp, payload].concat()
}

/// Runs a story in a network of its own. Without the right to make one there is no story to tell.
fn in_own_network(story: impl FnOnce() + Send + 'static) {
    if !has_kvm() {
        return;
    }
    let thread = std::thread::spawn(move || {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() || !std::path::Path::new("/dev/net/tun").exists() {
            eprintln!("skipped: no right to make a network namespace, or no taps");
            return;
        }
        story();
    });
    thread.join().unwrap();
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

/// The host's end of a tap, with a socket that the guest's packets reach.
fn host(tap: &str) -> UdpSocket {
    ip(&format!("address add 10.79.0.1/24 dev {tap}"));
    ip(&format!("link set {tap} up"));
    ip(&format!(
        "neighbour replace 10.79.0.2 lladdr 10:66:6a:00:00:01 dev {tap}"
    ));
    let socket = UdpSocket::bind(("10.79.0.1", PORT)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

fn carrier(tap: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", tap]).output().unwrap();
    !String::from_utf8_lossy(&output.stdout).contains("NO-CARRIER")
}

/// The guest sends and receives on its second pair, and sees the cable go and come.
fn story(spec: Spec, tap: &str) -> (Vm, UdpSocket) {
    let socket = host(tap);
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("\0\0ready\n");
    let mut bytes = [0; 64];
    let (len, from) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"hello host");
    assert_eq!(from.to_string(), "10.79.0.2:4660");
    socket.send_to(b"hello guest", from).unwrap();
    vm.wait_for("hello guest\n");

    assert!(carrier(tap));
    let answer = client.update_device("eth0", &json!({"link_up": false})).unwrap();
    assert_eq!(answer["driver"]["active_pairs"], 2);
    vm.wait_for("cable out\n");
    assert!(!carrier(tap));
    let limits = json!({"transmit": {"bytes_per_second": 1_000_000}});
    let update = json!({"link_up": true, "limits": limits});
    let answer = client.update_device("eth0", &update).unwrap();
    assert_eq!(answer["limits"]["transmit"], limits["transmit"]);
    vm.wait_for("cable in\n");
    assert!(carrier(tap));
    let metrics = client.metrics().unwrap().devices["eth0"].clone();
    for counter in ["transmitted_frames", "received_frames"] {
        assert_eq!(metrics["pairs"][1][counter], 1, "{metrics}");
    }
    assert_eq!(metrics["commands"], 2);
    (vm, socket)
}

fn guest() -> Spec {
    let (sent, text) = (frame(b"hello host"), "hello guest");
    let (receive, transmit) = (queue(2) + BUFFER, queue(3) + BUFFER);
    let mut payload = two_pairs()
        .print("ready\n")
        .bytes(transmit, &sent)
        .offer(3, 0, &[(transmit, sent.len() as u32, 0)])
        .wait16(queue(3) + USED + 2, 1);
    // The host answers on the queue where the flow came from.
    payload = payload
        .offer(2, 0, &[(receive, 2048, WRITE)])
        .wait16(receive + 12 + 12, 8)
        .wait16(receive + 12 + 42, u16::from_le_bytes(*b"he"))
        .print_memory(receive + 12 + 42, text.len() as u32)
        .print("\n")
        .wait16(STATUS, 0)
        .print("cable out\n")
        .wait16(STATUS, 1)
        .print("cable in\n")
        .forever();
    Spec::new(&payload)
}

#[test]
fn a_guest_uses_two_pairs_of_queues_of_a_tap_and_sees_its_cable() {
    in_own_network(|| {
        ip("tuntap add dev vgn0 mode tap multi_queue");
        let net = json!([{"id": "eth0", "tap": "vgn0", "mac": "10:66:6a:00:00:01", "queue_pairs": 2}]);
        let (vm, _socket) = story(guest().set("nets", net), "vgn0");
        drop(vm);
    });
}

/// A queue of a tap, open for the processes that are started from here.
fn tap_queue(name: &str) -> OwnedFd {
    let tap = devices::virtio::net::Tap::open(name).unwrap();
    // SAFETY: the descriptor is open, as `tap` has it.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(tap.fd()) };
    let number = fcntl(fd.as_fd(), FcntlArg::F_DUPFD(3)).unwrap();
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[test]
fn the_queues_of_a_tap_may_be_passed_as_descriptors() {
    in_own_network(|| {
        ip("tuntap add dev vgn1 mode tap multi_queue");
        let fds = ["vgn1"; 2].map(tap_queue);
        let numbers = fds.each_ref().map(AsRawFd::as_raw_fd);
        let net = json!([{"id": "eth0", "fds": numbers, "mac": "10:66:6a:00:00:01"}]);
        let spec = guest()
            .set("nets", net)
            .set("sandbox", json!({"uid": 54321, "gid": 54321}));
        let (vm, _socket) = story(spec, "vgn1");
        drop((vm, fds));
    });
}
