//! A driver that sends any packets, to a socket device with one listening host program and one that connects.
#![no_main]

use devices::testing::{Harness, Part};
use devices::virtio::vsock::packet::{HEADER_LEN, HOST_CID, Header};
use devices::virtio::vsock::{Config, Vsock};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("v");
    let listener = UnixListener::bind(directory.path().join("v_1")).expect("a listener");
    listener.set_nonblocking(true).expect("a listener that does not block");
    let vsock = Vsock::new(Config { cid: 3, socket: socket.clone() }).expect("a socket device");
    let mut harness = Harness::new(vsock, 0);
    let mut stream = UnixStream::connect(&socket).expect("a connection");
    stream.write_all(b"CONNECT 2\nhello").expect("a line");
    for _ in 0..64 {
        harness.queues[0].add(&[Part::Write(4096)]);
    }
    harness.queues[0].kick();
    for packet in input.chunks(HEADER_LEN + 8).take(64) {
        let Some((header, data)) = packet.split_at_checked(HEADER_LEN) else { break };
        let header: [u8; HEADER_LEN] = header.try_into().expect("the length of a header");
        // Mostly packets that get past the first look.
        let mut header = Header::decode(&header);
        if header.flags & 0x100 == 0 {
            header = Header { source_cid: 3, destination_cid: HOST_CID, socket_type: 1, ..header };
            header.destination_port = 1 << 30 | header.destination_port & 1;
            header.source_port &= 3;
            if header.flags & 0x200 == 0 {
                header.destination_port = 1;
            }
        }
        harness.queues[1].add(&[Part::Read(header.encode().to_vec()), Part::Read(data.to_vec())]);
        harness.queues[1].kick();
        while harness.queues[0].poll().is_some() {
            harness.queues[0].add(&[Part::Write(4096)]);
        }
        while harness.queues[1].poll().is_some() {}
    }
    let _ = listener.accept();
    std::thread::sleep(Duration::from_micros(200));
    harness.device.pause().expect("the worker lives");
    harness.device.reset();
});
