//! Against a real macvtap link, on one end of a pair of virtual Ethernet links; the host is at the other end.

use super::command_tests::command;
use super::features::{self, CTRL_VQ, GUEST_CSUM, GUEST_TSO4, MQ, MRG_RXBUF};
use super::header::{self, HEADER_LEN, Header};
use super::tap::{Offloads, Tap, TapError};
use super::test_network::{card, configure, in_own_network, ip, sys, udp_frame};
use super::tests::config;
use crate::testing::{PATIENCE, Part};
use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::os::fd::OwnedFd;

const HOST: [u8; 4] = [10, 78, 0, 1];
const GUEST: [u8; 4] = [10, 78, 0, 2];

/// Makes a macvtap link; gives so many descriptors of it. Nothing if this kernel has no such links.
fn macvtap(name: &str, count: usize) -> Option<Vec<OwnedFd>> {
    let made = std::process::Command::new("ip")
        .args([
            "link", "add", "link", "vge0", "name", name, "type", "macvtap", "mode", "bridge",
        ])
        .status()
        .unwrap();
    if !made.success() {
        eprintln!("skipped: no macvtap links");
        return None;
    }
    ip(&format!("link set {name} address {} up", config().mac));
    // The name in /dev has a number that may be taken in another network; the numbers of the file are what counts.
    let number = sys(&format!("{name}/ifindex"));
    let device = sys(&format!("{name}/macvtap/tap{number}/dev"));
    let (major, minor) = device.split_once(':').unwrap();
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join(name);
    let text = std::ffi::CString::new(node.to_str().unwrap()).unwrap();
    let device = libc::makedev(major.parse().unwrap(), minor.parse().unwrap());
    // SAFETY: the path is a string that lives for the call.
    let made = unsafe { libc::mknod(text.as_ptr(), libc::S_IFCHR | 0o600, device) };
    assert_eq!(made, 0);
    let open = |_| -> File { OpenOptions::new().read(true).write(true).open(&node).unwrap() };
    Some((0..count).map(open).map(OwnedFd::from).collect())
}

fn ethernet() {
    ip("link add vge0 type veth peer name vge1");
    ip("link set vge0 up");
    configure("vge1", "10.78.0.1", "10.78.0.2");
}

#[test]
fn the_guest_and_the_host_exchange_packets_over_macvtap_queues() {
    in_own_network(|| {
        ethernet();
        let Some(fds) = macvtap("vgm0", 2) else { return };
        let taps = Tap::from_fds(fds).unwrap();
        assert_ne!(taps[0].offloads().0 & Offloads::TSO4, 0);
        let offered = features::offered(taps[0].offloads(), 2);
        let wanted = 1 << MRG_RXBUF | 1 << GUEST_CSUM | 1 << GUEST_TSO4 | 1 << CTRL_VQ | 1 << MQ;
        assert_eq!(offered & wanted, wanted);
        let mut harness = card(taps, wanted);
        for pairs in [1, 2, 1] {
            assert_eq!(command(&mut harness, 4, &[4, 0, pairs, 0]), 0);
        }
        for _ in 0..64 {
            harness.queues[0].add(&[Part::Write(2048)]);
        }
        harness.queues[0].kick();
        let socket = UdpSocket::bind("10.78.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut bytes = [0; 64];
        harness.request(1, &[Part::Read(udp_frame(GUEST, HOST, port, b"hello host"))]);
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!(
            (&bytes[..len], from.to_string().as_str()),
            (&b"hello host"[..], "10.78.0.2:4660")
        );
        socket.send_to(b"hello guest", from).unwrap();
        loop {
            let (_, len, bytes) = harness.next_used(0).expect("a frame of the host");
            let frame = &bytes[HEADER_LEN..len as usize];
            if !frame.ends_with(b"hello guest") {
                continue;
            }
            // The host leaves the checksum to the guest, which said that it takes that.
            let header = Header::decode(*bytes.first_chunk().unwrap());
            assert_eq!(
                (header.flags, header.csum_start, header.csum_offset),
                (header::NEEDS_CSUM, 34, 6)
            );
            break;
        }
    });
}

#[test]
fn macvtap_queues_of_different_links_are_no_device() {
    in_own_network(|| {
        ethernet();
        let Some(mut fds) = macvtap("vgm1", 1) else { return };
        ip("link set vgm1 address 10:66:6a:00:00:99");
        fds.extend(macvtap("vgm2", 1).unwrap());
        assert!(matches!(Tap::from_fds(fds), Err(TapError::AnotherLink(..))));
    });
}
