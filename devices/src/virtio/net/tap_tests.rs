//! Against real taps.

use super::super::command_tests::command;
use super::super::features::{self, CTRL_VQ, GUEST_CSUM, GUEST_TSO4, MQ, MRG_RXBUF};
use super::super::header::HEADER_LEN;
use super::super::test_network::{card, configure, in_own_network, ip, sys, udp_frame};
use super::super::{RECEIVE, TRANSMIT};
use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use serde_json::{Value, json};
use std::net::UdpSocket;

const HOST: [u8; 4] = [10, 77, 0, 1];
const GUEST: [u8; 4] = [10, 77, 0, 2];

fn configured(name: &str) {
    configure(name, "10.77.0.1", "10.77.0.2");
}

fn socket() -> (UdpSocket, u16) {
    let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Sends a packet from the guest; it arrives at the host.
fn reaches_the_host(harness: &mut Harness) {
    let (socket, port) = socket();
    harness.request(TRANSMIT, &[Part::Read(udp_frame(GUEST, HOST, port, b"hello"))]);
    assert_eq!(socket.recv(&mut [0; 64]).unwrap(), 5);
}

/// Waits for the packet with this payload on a queue that has buffers for what comes before.
fn arrives(harness: &mut Harness, queue: usize, payload: &[u8]) {
    loop {
        let (_, len, bytes) = harness.next_used(queue).expect("a frame of the host");
        if bytes[HEADER_LEN..len as usize].ends_with(payload) {
            return;
        }
    }
}

fn give_buffers(harness: &mut Harness, queue: usize) {
    for _ in 0..64 {
        harness.queues[queue].add(&[Part::Write(2048)]);
    }
    harness.queues[queue].kick();
}

#[test]
fn the_guest_and_the_host_exchange_packets_over_a_tap() {
    in_own_network(|| {
        let tap = Tap::open("vgt0").unwrap();
        configured("vgt0");
        assert_ne!(
            tap.offloads().0 & Offloads::TSO4,
            0,
            "every kernel of these years knows this"
        );
        let features = 1 << MRG_RXBUF | 1 << GUEST_CSUM | 1 << GUEST_TSO4;
        let mut harness = card(vec![tap], features);
        give_buffers(&mut harness, RECEIVE);
        reaches_the_host(&mut harness);
        let (socket, _) = socket();
        socket.send_to(b"hello guest", "10.77.0.2:4660").unwrap();
        arrives(&mut harness, RECEIVE, b"hello guest");
    });
}

#[test]
fn a_tap_descriptor_is_taken_over_and_others_are_refused() {
    in_own_network(|| {
        let tap = Tap::open("vgt1").unwrap();
        let fd = OwnedFd::from(tap.file.try_clone().unwrap());
        let again = Tap::from_fd(fd).unwrap();
        assert_eq!(again.offloads(), tap.offloads());
        let null = File::open("/dev/null").unwrap();
        assert!(matches!(Tap::from_fd(null.into()), Err(TapError::NotATap(_))));
        let other = Tap::open("vgt2").unwrap();
        let fds = [&tap, &other].map(|tap| tap.file.try_clone().unwrap().into());
        let refused = Tap::from_fds(fds.into()).unwrap_err();
        assert!(
            matches!(refused, TapError::AnotherLink(_, other, first) if other == "vgt2" && first == "vgt1")
        );
    });
    for name in ["", "sixteen-bytes-xx", "a\0b"] {
        assert!(matches!(Tap::open(name), Err(TapError::Name(_))));
    }
}

#[test]
fn a_link_with_one_queue_is_not_taken_for_one_with_several() {
    in_own_network(|| {
        ip("tuntap add dev single mode tap");
        ip("tuntap add dev many mode tap multi_queue");
        assert!(matches!(Tap::open_queues("single", 2), Err(TapError::OneQueue(name)) if name == "single"));
        assert_eq!(Tap::open_queues("many", 2).unwrap().len(), 2);
        // One queue of a link that could have more.
        assert!(Tap::open("many").is_ok() && Tap::open("single").is_ok());
    });
}

#[test]
fn the_kernel_takes_the_offloads_of_every_driver() {
    in_own_network(|| {
        let tap = Tap::open("vgt3").unwrap();
        // All combinations of what a driver may accept.
        let bits = [1, 7, 8, 9, 10, 54, 55];
        for choice in 0..1u32 << bits.len() {
            let chosen = bits
                .iter()
                .enumerate()
                .filter(|(index, _)| choice & 1 << index != 0);
            let accepted = chosen.fold(0, |accepted, (_, bit)| accepted | 1u64 << bit);
            tap.set_offloads(features::offloads(accepted))
                .unwrap_or_else(|error| panic!("{accepted:#x}: {error}"));
        }
    });
}

fn received(metrics: &Value, pair: usize) -> u64 {
    metrics["pairs"][pair]["received_frames"].as_u64().unwrap()
}

#[test]
fn the_host_spreads_flows_over_the_pairs_in_use_and_no_others() {
    in_own_network(|| {
        let taps = Tap::open_queues("vgt4", 3).unwrap();
        configured("vgt4");
        let mut harness = card(taps, 1 << MRG_RXBUF | 1 << CTRL_VQ | 1 << MQ);
        for (pairs, last) in [(1, 1), (3, 3), (1, 1), (2, 2)] {
            assert_eq!(command(&mut harness, 6, &[4, 0, pairs, 0]), 0);
            for queue in [0, 2, 4] {
                while harness.queues[queue].poll().is_some() {}
                for _ in harness.queues[queue].in_flight()..100 {
                    harness.queues[queue].add(&[Part::Write(2048)]);
                }
                harness.queues[queue].kick();
            }
            let before = harness.device.metrics();
            let total = |metrics: &Value| metrics["received_frames"].as_u64().unwrap();
            // Each from a port of its own: a flow.
            for _ in 0..40 {
                socket().0.send_to(b"a flow", "10.77.0.2:4660").unwrap();
            }
            let all = |harness: &Harness| total(&harness.device.metrics()) >= total(&before) + 40;
            assert!(
                harness.interrupt.wait(|| all(&harness)),
                "{}",
                harness.device.metrics()
            );
            let after = harness.device.metrics();
            for pair in 0..3 {
                let some = received(&after, pair) > received(&before, pair);
                assert_eq!(some, pair < last, "pair {pair} of {pairs}: {before} {after}");
            }
        }
    });
}

#[test]
fn the_host_sees_whether_the_cable_is_in() {
    in_own_network(|| {
        let tap = Tap::open("vgt5").unwrap();
        configured("vgt5");
        let mut harness = card(vec![tap], 0);
        for (up, carrier) in [(true, "1"), (false, "0"), (true, "1")] {
            let update = json!({"link_up": up});
            harness.device.update(update).wait(PATIENCE).unwrap();
            assert_eq!(sys("vgt5/carrier"), carrier);
        }
        reaches_the_host(&mut harness);
    });
}

#[test]
fn a_card_works_again_when_the_hosts_link_does() {
    in_own_network(|| {
        let tap = Tap::open("vgt6").unwrap();
        configured("vgt6");
        let mut harness = card(vec![tap], 0);
        ip("link set vgt6 down");
        harness.request(TRANSMIT, &[Part::Read(udp_frame(GUEST, HOST, 9, b"lost"))]);
        assert_eq!(harness.device.metrics()["transmit_drops"], 1);
        ip("link set vgt6 up");
        reaches_the_host(&mut harness);
    });
}

#[test]
fn a_card_whose_link_is_deleted_loses_frames_and_nothing_else() {
    in_own_network(|| {
        ip("tuntap add dev vgt7 mode tap multi_queue");
        let taps = Tap::open_queues("vgt7", 2).unwrap();
        configured("vgt7");
        let features = 1 << CTRL_VQ | 1 << MQ;
        let mut harness = card(taps, features);
        assert_eq!(command(&mut harness, 4, &[4, 0, 2, 0]), 0);
        ip("link delete vgt7");
        for transmit in [1, 3] {
            harness.request(transmit, &[Part::Read(udp_frame(GUEST, HOST, 9, b"lost"))]);
        }
        assert_eq!(harness.device.metrics()["transmit_drops"], 2);
        // The host can no longer change the number of queues.
        assert_eq!(command(&mut harness, 4, &[4, 0, 1, 0]), 1);
        harness.device.pause().unwrap();
        harness.device.resume().unwrap();
        harness.device.reset();
    });
}

#[test]
fn the_kernel_survives_any_header_that_passes() {
    in_own_network(|| {
        let tap = Tap::open("vgt8").unwrap();
        configured("vgt8");
        let features = features::offered(tap.offloads(), 1);
        let mut harness = card(vec![tap], features);
        let mut noise = 1_u32;
        let mut next = || {
            // A linear congruential generator: the same headers in each run.
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.to_be_bytes()
        };
        for round in 0..2000 {
            let mut frame = udp_frame(GUEST, HOST, 9, &[7; 3000]);
            let [a, b, c, d] = next();
            let [e, f, g, h] = next();
            let gso_type = [0, 1, 3, 4, 5, 0x81, 0x84][usize::from(a) % 7];
            let header = [round as u8 & 1, gso_type, b, c & 3, d, e & 7, f, g & 1, h & 63, 0];
            frame[..10].copy_from_slice(&header);
            harness.request(TRANSMIT, &[Part::Read(frame)]);
        }
        let metrics = harness.device.metrics();
        assert!(metrics["transmitted_frames"].as_u64() > Some(100), "{metrics}");
        assert!(metrics["transmit_drops"].as_u64() > Some(100), "{metrics}");
        reaches_the_host(&mut harness);
    });
}

#[test]
fn a_frame_longer_than_its_buffer_is_lost_whole() {
    in_own_network(|| {
        let tap = Tap::open("vgt9").unwrap();
        configured("vgt9");
        // The host sends longer frames than it should.
        ip("link set vgt9 mtu 9000");
        let mut harness = card(vec![tap], 0);
        give_buffers(&mut harness, RECEIVE);
        let (socket, _) = socket();
        socket.send_to(&[1; 4000], "10.77.0.2:9").unwrap();
        socket.send_to(b"short", "10.77.0.2:9").unwrap();
        arrives(&mut harness, RECEIVE, b"short");
        assert_eq!(harness.device.metrics()["receive_drops"], 1);
    });
}
