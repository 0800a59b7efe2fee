//! A network of a test's own, with a tap in it for a guest's card, and the data that is sent through both ways.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Bytes of a bulk transfer: enough for segments to grow, little enough for an emulated processor.
pub const BULK: usize = 4 << 20;

/// Tells a story in a network whose only link is `tap0`, of this mode (`tap`, or `tap multi_queue`), with the address 10.80.0.1.
pub fn in_own_network(mode: &str, story: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ip(&format!("tuntap add dev tap0 mode {mode}"));
            ip("address add 10.80.0.1/24 dev tap0");
            ip("link set tap0 up");
            story();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Calls `ip`.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {words}");
}

/// A bulk transfer's data: pieces that are lost, doubled or exchanged leave other data.
pub fn bulk() -> Vec<u8> {
    (0..BULK).map(|index| (index * 7 / 5) as u8).collect()
}

/// Sends this to the next who connects. Closing the connection tells the guest that this is all.
pub fn send(listener: &TcpListener, data: &[u8]) {
    let (mut guest, _) = listener.accept().expect("a connection");
    guest.write_all(data).expect("send to the guest");
}

/// What the next who connects sends.
pub fn receive(listener: &TcpListener) -> Vec<u8> {
    let (mut guest, _) = listener.accept().expect("a connection");
    let mut bytes = Vec::new();
    guest.read_to_end(&mut bytes).expect("receive from the guest");
    bytes
}

/// Sends bulk data, and has it sent back.
pub fn exchange(listener: &TcpListener) {
    let data = bulk();
    send(listener, &data);
    let back = receive(listener);
    assert!(back == data, "{} bytes came back, or others", back.len());
}
