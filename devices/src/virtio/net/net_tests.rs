use super::*;
use crate::testing::{Harness, Part};
use header::{HEADER_LEN, MAX_FRAME};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

pub(super) const MERGEABLE: u64 = 1 << features::MRG_RXBUF;

pub(super) fn config() -> Config {
    Config {
        mac: "10:66:6a:01:02:03".parse().unwrap(),
        mtu: 1500,
        limits: NetLimits::default(),
    }
}

/// A card whose wire is a packet socket.
pub(super) fn card(features: u64) -> (Harness, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_read_timeout(Some(crate::testing::PATIENCE)).unwrap();
    let tap = Tap::from_packet_socket(OwnedFd::from(theirs)).unwrap();
    (
        Harness::new(Net::new(config(), vec![tap]).unwrap(), features),
        ours,
    )
}

pub(super) fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_add(seed)).collect()
}

pub(super) fn with_header(frame: &[u8]) -> Vec<u8> {
    [&[0; HEADER_LEN][..], frame].concat()
}

#[test]
fn frames_of_the_guest_reach_the_wire_unchanged() {
    let (mut harness, wire) = card(0);
    let sent = with_header(&frame(1000, 1));
    let (first, rest) = sent.split_at(HEADER_LEN + 14);
    harness.request(TRANSMIT, &[Part::Read(first.to_vec()), Part::Read(rest.to_vec())]);
    let mut received = vec![0; 2000];
    let len = wire.recv(&mut received).unwrap();
    assert_eq!(received[..len], sent);
    assert_eq!(harness.device.metrics()["transmitted_bytes"], 1000);
}

#[test]
fn frames_from_the_wire_reach_the_guest() {
    for features in [0, MERGEABLE] {
        let (mut harness, wire) = card(features);
        for (len, size) in [(60, 2048), (1514, 2048), (1514, 65_600)] {
            harness.queues[RECEIVE].add(&[Part::Write(size)]);
            harness.queues[RECEIVE].kick();
            let sent = frame(len, size as u8);
            wire.send(&with_header(&sent)).unwrap();
            let (_, used, bytes) = harness.next_used(RECEIVE).unwrap();
            assert_eq!(used as usize, HEADER_LEN + len);
            assert_eq!(bytes[BUFFERS..HEADER_LEN], [1, 0]);
            assert_eq!(bytes[HEADER_LEN..HEADER_LEN + len], sent);
        }
    }
}

/// Where the header tells the number of buffers.
const BUFFERS: usize = header::BUFFER_COUNT_OFFSET;

#[test]
fn a_long_frame_is_spread_over_mergeable_buffers() {
    let features = MERGEABLE | 1 << features::GUEST_CSUM | 1 << features::GUEST_TSO4;
    let (mut harness, wire) = card(features);
    for _ in 0..60 {
        harness.queues[RECEIVE].add(&[Part::Write(1536)]);
    }
    harness.queues[RECEIVE].kick();
    // Twice: straight into the buffers, then with too few for the longest frame by way of the device's own.
    for seed in [1, 2] {
        let sent = frame(20_000, seed);
        wire.send(&with_header(&sent)).unwrap();
        let mut received = Vec::new();
        let mut count = 1;
        let mut index = 0;
        while index < count {
            let (_, len, bytes) = harness.next_used(RECEIVE).unwrap();
            if index == 0 {
                count = u16::from_le_bytes([bytes[BUFFERS], bytes[BUFFERS + 1]]);
            }
            received.extend_from_slice(&bytes[..len as usize]);
            index += 1;
        }
        assert_eq!(count, 14);
        assert_eq!(received[HEADER_LEN..], sent);
    }
}

#[test]
fn frames_that_fit_nowhere_are_dropped_and_counted() {
    let (mut harness, wire) = card(0);
    harness.queues[RECEIVE].add(&[Part::Write(100)]);
    harness.queues[RECEIVE].kick();
    wire.send(&with_header(&frame(500, 0))).unwrap();
    wire.send(&[0; 5]).unwrap();
    wire.send(&with_header(&frame(60, 7))).unwrap();
    let (_, len, _) = harness.next_used(RECEIVE).unwrap();
    assert_eq!(len as usize, HEADER_LEN + 60);
    assert_eq!(harness.device.metrics()["receive_drops"], 2);
}

#[test]
fn frames_wait_on_the_wire_until_the_driver_has_buffers() {
    let (mut harness, wire) = card(MERGEABLE);
    for seed in 0..5 {
        wire.send(&with_header(&frame(200, seed))).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(20));
    for seed in 0..5 {
        harness.queues[RECEIVE].add(&[Part::Write(2048)]);
        harness.queues[RECEIVE].kick();
        let bytes = harness.next_used(RECEIVE).unwrap().2;
        assert_eq!(bytes[HEADER_LEN..HEADER_LEN + 200], frame(200, seed));
    }
}

#[test]
fn malformed_frames_of_the_guest_are_dropped() {
    let (mut harness, wire) = card(0);
    harness.request(TRANSMIT, &[Part::Read(vec![0; HEADER_LEN])]);
    harness.request(TRANSMIT, &[Part::Read(vec![0; 4])]);
    harness.request(TRANSMIT, &[Part::Read(vec![0; MAX_FRAME + 1])]);
    harness.queues[TRANSMIT].add_raw(&[(1 << 50, 100, false)]);
    harness.queues[TRANSMIT].kick();
    harness.next_used(TRANSMIT).unwrap();
    assert_eq!(harness.device.metrics()["transmit_drops"], 4);
    wire.set_nonblocking(true).unwrap();
    assert!(wire.recv(&mut [0; 64]).is_err());
}

#[test]
fn a_receive_buffer_too_small_for_the_header_breaks_the_queue() {
    let (mut harness, wire) = card(MERGEABLE);
    harness.queues[RECEIVE].add(&[Part::Write(4)]);
    harness.queues[RECEIVE].add(&[Part::Write(2048)]);
    harness.queues[RECEIVE].kick();
    wire.send(&with_header(&frame(60, 0))).unwrap();
    assert!(harness.interrupt.wait(|| harness.interrupt.asked_for_reset()));
}

#[test]
fn buffers_taken_in_advance_are_put_back_when_the_device_pauses() {
    let features = MERGEABLE | 1 << features::GUEST_CSUM | 1 << features::GUEST_TSO4;
    let (mut harness, wire) = card(features);
    for _ in 0..50 {
        harness.queues[RECEIVE].add(&[Part::Write(2048)]);
    }
    harness.queues[RECEIVE].kick();
    wire.send(&with_header(&frame(100, 1))).unwrap();
    harness.next_used(RECEIVE).unwrap();
    harness.device.pause().unwrap();
    let states = harness.device.queue_states();
    assert_eq!(
        (states[RECEIVE].next_available, states[RECEIVE].next_used),
        (1, 1)
    );
    wire.send(&with_header(&frame(100, 2))).unwrap();
    harness.device.resume().unwrap();
    let bytes = harness.next_used(RECEIVE).unwrap().2;
    assert_eq!(bytes[HEADER_LEN..HEADER_LEN + 100], frame(100, 2));
}

#[test]
fn after_a_reset_the_card_works_again_with_other_features() {
    let (mut harness, wire) = card(MERGEABLE);
    harness.queues[RECEIVE].add(&[Part::Write(2048)]);
    harness.queues[RECEIVE].kick();
    for features in [0, MERGEABLE, 0] {
        harness.device.reset();
        harness.activate(features);
        harness.queues[RECEIVE].add(&[Part::Write(2048)]);
        harness.queues[RECEIVE].kick();
        wire.send(&with_header(&frame(90, 3))).unwrap();
        assert_eq!(harness.next_used(RECEIVE).unwrap().1 as usize, HEADER_LEN + 90);
        harness.request(TRANSMIT, &[Part::Read(with_header(&frame(90, 4)))]);
        assert_eq!(wire.recv(&mut [0; 200]).unwrap(), HEADER_LEN + 90);
    }
}

#[test]
fn a_wire_that_goes_away_leaves_a_card_that_drops() {
    let (mut harness, wire) = card(0);
    drop(wire);
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 0)))]);
    assert_eq!(harness.device.metrics()["transmit_drops"], 1);
    harness.device.reset();
    harness.activate(0);
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 0)))]);
}

#[test]
fn addresses_are_read_and_written_in_the_usual_form() {
    let address: MacAddress = "10:66:6A:01:02:03".parse().unwrap();
    assert_eq!(address.to_string(), "10:66:6a:01:02:03");
    for wrong in [
        "",
        "10:66:6a:01:02",
        "10:66:6a:01:02:03:04",
        "10:66:6a:01:02:g3",
        "1:66:6a:01:02:03",
        "+1:66:6a:01:02:03",
        "11:66:6a:01:02:03",
    ] {
        assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
    }
    let config: Config = serde_json::from_str(r#"{"mac":"10:66:6a:00:00:01"}"#).unwrap();
    assert_eq!(config.mtu, 1500);
    assert!(serde_json::from_str::<Config>(r#"{"mac":"10:66:6a:00:00:01","speed":1}"#).is_err());
    let (_, theirs) = UnixDatagram::pair().unwrap();
    let tap = Tap::from_packet_socket(theirs.into()).unwrap();
    assert!(matches!(
        Net::new(Config { mtu: 20, ..config }, vec![tap]),
        Err(NetError::Mtu(20))
    ));
}

#[test]
fn a_limited_card_slows_down_and_loses_nothing() {
    let hundred = Limits {
        operations_per_second: std::num::NonZeroU64::new(100),
        ..Limits::default()
    };
    let limits = NetLimits {
        receive: hundred,
        transmit: hundred,
    };
    let (wire, theirs) = UnixDatagram::pair().unwrap();
    wire.set_read_timeout(Some(crate::testing::PATIENCE)).unwrap();
    let tap = Tap::from_packet_socket(OwnedFd::from(theirs)).unwrap();
    let mut harness = Harness::new(Net::new(Config { limits, ..config() }, vec![tap]).unwrap(), 0);
    let start = std::time::Instant::now();
    for seed in 0..30 {
        harness.queues[TRANSMIT].add(&[Part::Read(with_header(&frame(60, seed)))]);
    }
    harness.queues[TRANSMIT].kick();
    for seed in 0..30 {
        let mut bytes = vec![0; 100];
        let len = wire.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..len], with_header(&frame(60, seed)));
    }
    // Ten at once, then one in ten milliseconds.
    assert!(start.elapsed() >= std::time::Duration::from_millis(150));
    for seed in 0..20 {
        harness.queues[RECEIVE].add(&[Part::Write(2048)]);
        wire.send(&with_header(&frame(60, seed)))
            .unwrap_or_else(|_| panic!("frame {seed}"));
        harness.queues[RECEIVE].kick();
        assert_eq!(harness.next_used(RECEIVE).unwrap().1, 72);
    }
}
