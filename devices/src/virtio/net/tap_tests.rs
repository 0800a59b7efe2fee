//! Against a real tap, in a network namespace that the test makes for itself. Nothing leaves it.

use super::super::features;
use super::super::header::HEADER_LEN;
use super::super::{Config, Net, RECEIVE, TRANSMIT};
use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use std::net::UdpSocket;

/// Runs a story in a network namespace of its own, with a tap that is up. Without the right to make one there is no
/// story to tell.
fn in_own_network(name: &'static str, story: impl FnOnce(Tap) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: affects this thread only, which ends with the story.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 || !std::path::Path::new("/dev/net/tun").exists()
        {
            eprintln!("skipped: no right to make a network namespace, or no taps");
            return;
        }
        let tap = Tap::open(name).unwrap();
        configure(name, [10, 77, 0, 1]);
        story(tap);
    });
    thread.join().unwrap();
}

/// Gives a link an address and sets it up.
fn configure(name: &str, address: [u8; 4]) {
    // SAFETY: plain socket and ioctl calls on structures that live for their duration.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request
            .ifr_name
            .iter_mut()
            .zip(name.bytes())
            .for_each(|(to, from)| *to = from as libc::c_char);
        let set = |request: u64, value: libc::sockaddr_in| {
            let mut structure: libc::ifreq = std::mem::zeroed();
            structure
                .ifr_name
                .iter_mut()
                .zip(name.bytes())
                .for_each(|(to, from)| *to = from as libc::c_char);
            structure.ifr_ifru.ifru_addr = *(&raw const value).cast();
            assert_eq!(libc::ioctl(socket, request, &raw mut structure), 0);
        };
        let inet = |octets: [u8; 4]| libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from_ne_bytes(octets),
            },
            sin_zero: [0; 8],
        };
        set(libc::SIOCSIFADDR, inet(address));
        set(libc::SIOCSIFNETMASK, inet([255, 255, 255, 0]));
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request), 0);
        libc::close(socket);
    }
}

fn config() -> Config {
    serde_json::from_str(r#"{"mac":"10:66:6a:00:00:02"}"#).unwrap()
}

/// An Ethernet frame to everyone with an IPv4/UDP packet from 10.77.0.2, without UDP checksum.
fn udp_frame(port: u16, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut ip = vec![
        0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 10, 77, 0, 2, 10, 77, 0, 1,
    ];
    ip[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
    let sum: u32 = ip
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = vec![0x12, 0x34];
    udp.extend(port.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    let ethernet = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x10, 0x66, 0x6a, 0, 0, 2, 8, 0,
    ];
    [&[0; HEADER_LEN][..], &ethernet, &ip, &udp, payload].concat()
}

#[test]
fn the_guest_and_the_host_exchange_packets_over_a_tap() {
    in_own_network("vgt0", |tap| {
        let offloads = tap.offloads();
        assert_ne!(
            offloads.0 & Offloads::TSO4,
            0,
            "every kernel of these years knows this"
        );
        let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let features = 1 << features::MRG_RXBUF | 1 << features::GUEST_CSUM | 1 << features::GUEST_TSO4;
        let mut harness = Harness::new(Net::new(config(), vec![tap]).unwrap(), features);
        for _ in 0..64 {
            harness.queues[RECEIVE].add(&[Part::Write(2048)]);
        }
        harness.queues[RECEIVE].kick();
        harness.request(TRANSMIT, &[Part::Read(udp_frame(port, b"hello host"))]);
        let mut bytes = [0; 64];
        let (len, from) = socket.recv_from(&mut bytes).unwrap();
        assert_eq!(
            (&bytes[..len], from.to_string().as_str()),
            (&b"hello host"[..], "10.77.0.2:4660")
        );
        // The host asks by ARP who we are before it could answer.
        socket.send_to(b"hello guest", from).unwrap();
        let arp = loop {
            let (_, len, bytes) = harness.next_used(RECEIVE).expect("a frame of the host");
            let frame = bytes[HEADER_LEN..len as usize].to_vec();
            if frame[12..14] == [8, 6] {
                break frame;
            }
        };
        assert_eq!(arp[38..42], [10, 77, 0, 2]);
    });
}

#[test]
fn a_tap_descriptor_is_taken_over_and_others_are_refused() {
    in_own_network("vgt1", |tap| {
        let fd = OwnedFd::from(tap.file.try_clone().unwrap());
        let again = Tap::from_fd(fd).unwrap();
        assert_eq!(again.offloads(), tap.offloads());
        let null = File::open("/dev/null").unwrap();
        assert!(matches!(Tap::from_fd(null.into()), Err(TapError::NotATap(_))));
    });
    for name in ["", "sixteen-bytes-xx", "a\0b"] {
        assert!(matches!(Tap::open(name), Err(TapError::Name(_))));
    }
}

#[test]
fn the_kernel_takes_the_offloads_of_every_driver() {
    in_own_network("vgt3", |tap| {
        // All combinations of what a driver may accept.
        let bits = [1, 7, 8, 9, 10, 54, 55];
        for choice in 0..1u32 << bits.len() {
            let chosen = bits
                .iter()
                .enumerate()
                .filter(|(index, _)| choice & 1 << index != 0);
            let features = chosen.fold(0, |features, (_, bit)| features | 1u64 << bit);
            let offloads = features::offloads(features);
            tap.set_offloads(offloads)
                .unwrap_or_else(|error| panic!("{features:#x}: {error}"));
        }
    });
}
