//! A card with several pairs of queues.

use super::command_tests::command;
use super::tests::{config, frame, with_header};
use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use header::HEADER_LEN;
use serde_json::json;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

const FEATURES: u64 = 1 << features::CTRL_VQ | 1 << features::MQ | 1 << features::CTRL_RX;
const PAIRS: usize = 3;

/// A card with three pairs, each with a wire of its own.
fn card(features: u64, limits: NetLimits) -> (Harness, Vec<UnixDatagram>) {
    let (mut taps, mut wires) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        wires.push(ours);
        taps.push(Tap::from_packet_socket(OwnedFd::from(theirs)).unwrap());
    }
    let net = Net::new(Config { limits, ..config() }, taps).unwrap();
    (Harness::new(net, features), wires)
}

fn set_pairs(harness: &mut Harness, pairs: u16) -> u8 {
    let [low, high] = pairs.to_le_bytes();
    command(harness, 2 * PAIRS, &[4, 0, low, high])
}

/// Sends a frame each way on a pair.
fn passes(harness: &mut Harness, wires: &[UnixDatagram], pair: usize) {
    let sent = with_header(&frame(200, pair as u8));
    harness.request(2 * pair + 1, &[Part::Read(sent.clone())]);
    let mut bytes = [0; 400];
    let len = wires[pair].recv(&mut bytes).unwrap();
    assert_eq!(bytes[..len], sent);
    harness.queues[2 * pair].add(&[Part::Write(2048)]);
    harness.queues[2 * pair].kick();
    wires[pair].send(&sent).unwrap();
    let (_, len, bytes) = harness.next_used(2 * pair).unwrap();
    assert_eq!(bytes[HEADER_LEN..len as usize], sent[HEADER_LEN..]);
}

#[test]
fn the_driver_chooses_how_many_pairs_are_in_use() {
    let (mut harness, wires) = card(FEATURES, NetLimits::default());
    let mut max = [0; 2];
    harness.device.config().read(8, &mut max);
    assert_eq!(u16::from_le_bytes(max), PAIRS as u16);
    passes(&mut harness, &wires, 0);
    // Nothing is delivered on pairs that the driver has not asked for yet.
    harness.queues[2].add(&[Part::Write(2048)]);
    harness.queues[2].kick();
    wires[1].send(&with_header(&frame(200, 7))).unwrap();
    passes(&mut harness, &wires, 0);
    assert_eq!(harness.queues[2].in_flight(), 1);
    assert_eq!(set_pairs(&mut harness, 3), control::OK);
    let bytes = harness.next_used(2).unwrap().2;
    assert_eq!(bytes[HEADER_LEN..HEADER_LEN + 200], frame(200, 7));
    for pair in 0..PAIRS {
        passes(&mut harness, &wires, pair);
    }
    for wrong in [0, PAIRS as u16 + 1, u16::MAX] {
        assert_eq!(set_pairs(&mut harness, wrong), control::ERR);
    }
    assert_eq!(set_pairs(&mut harness, 1), control::OK);
    passes(&mut harness, &wires, 0);
    let metrics = harness.device.metrics();
    assert_eq!(metrics["transmitted_frames"], 6);
    assert_eq!(metrics["pairs"][0]["transmitted_frames"], 4);
    assert_eq!(metrics["pairs"][2]["received_frames"], 1);
}

#[test]
fn a_driver_that_knows_of_one_pair_finds_its_control_queue_after_it() {
    let (mut harness, wires) = card(FEATURES & !(1 << features::MQ), NetLimits::default());
    assert_eq!(command(&mut harness, CONTROL, &[0, 1, 1]), control::OK);
    assert_eq!(command(&mut harness, CONTROL, &[4, 0, 2, 0]), control::ERR);
    passes(&mut harness, &wires, 0);
    // What such a driver does with other queues is of no interest.
    for queue in 3..=2 * PAIRS {
        harness.queues[queue].add(&[Part::Read(vec![0, 1, 1]), Part::Write(1)]);
        harness.queues[queue].kick();
    }
    passes(&mut harness, &wires, 0);
    assert!((3..=2 * PAIRS).all(|queue| harness.queues[queue].in_flight() == 1));
}

#[test]
fn pairs_stay_in_use_over_a_pause_and_not_over_a_reset() {
    let (mut harness, wires) = card(FEATURES, NetLimits::default());
    set_pairs(&mut harness, 2);
    harness.device.pause().unwrap();
    let state: State = serde_json::from_value(harness.device.save().unwrap()).unwrap();
    assert_eq!((state.queue_pairs, state.driver.active_pairs), (3, 2));
    harness.device.resume().unwrap();
    passes(&mut harness, &wires, 1);
    harness.device.reset();
    harness.activate(FEATURES);
    harness.queues[2].add(&[Part::Write(2048)]);
    harness.queues[2].kick();
    wires[1].send(&with_header(&frame(200, 7))).unwrap();
    passes(&mut harness, &wires, 0);
    assert_eq!(harness.queues[2].in_flight(), 1);
}

#[test]
fn the_link_and_the_filter_are_those_of_all_pairs() {
    let (mut harness, wires) = card(FEATURES, NetLimits::default());
    set_pairs(&mut harness, 3);
    harness
        .device
        .update(json!({"link_up": false}))
        .wait(PATIENCE)
        .unwrap();
    harness.request(5, &[Part::Read(with_header(&frame(60, 0)))]);
    for wire in &wires {
        wire.send(&with_header(&frame(60, 0))).unwrap();
    }
    let lost = |harness: &Harness| harness.device.metrics()["receive_drops"] == 3;
    assert!(harness.interrupt.wait(|| lost(&harness)));
    assert_eq!(harness.device.metrics()["transmit_drops"], 1);
    harness
        .device
        .update(json!({"link_up": true}))
        .wait(PATIENCE)
        .unwrap();
    passes(&mut harness, &wires, 2);
    command(&mut harness, 2 * PAIRS, &[0, 0, 0]);
    harness.queues[4].add(&[Part::Write(2048)]);
    harness.queues[4].kick();
    wires[2].send(&with_header(&frame(60, 0))).unwrap();
    let filtered = |harness: &Harness| harness.device.metrics()["receive_filtered"] == 1;
    assert!(harness.interrupt.wait(|| filtered(&harness)));
}

#[test]
fn pairs_share_the_limits_of_the_card() {
    let transmit = Limits {
        operations_per_second: std::num::NonZeroU64::new(1),
        operations_burst: std::num::NonZeroU64::new(4),
        ..Limits::default()
    };
    let limits = NetLimits {
        transmit,
        ..NetLimits::default()
    };
    let (mut harness, wires) = card(FEATURES, limits);
    set_pairs(&mut harness, 3);
    for pair in 0..PAIRS {
        for seed in 0..10 {
            harness.queues[2 * pair + 1].add(&[Part::Read(with_header(&frame(60, seed)))]);
        }
        harness.queues[2 * pair + 1].kick();
    }
    let throttled = |harness: &Harness| {
        let metrics = harness.device.metrics();
        (0..PAIRS).all(|pair| metrics["pairs"][pair]["throttled"].as_u64() >= Some(1))
    };
    assert!(harness.interrupt.wait(|| throttled(&harness)));
    // The burst is passed once, not once for each pair. A slow host may have let some more pass meanwhile.
    let sent = harness.device.metrics()["transmitted_frames"].as_u64().unwrap();
    assert!((4..15).contains(&sent), "{sent}");
    harness
        .device
        .update(json!({"limits": {}}))
        .wait(PATIENCE)
        .unwrap();
    for wire in &wires {
        for _ in 0..10 {
            wire.recv(&mut [0; 100]).unwrap();
        }
    }
}

#[test]
fn cards_have_a_sensible_number_of_pairs() {
    for count in [0, usize::from(MAX_QUEUE_PAIRS) + 1] {
        let taps = (0..count).map(|_| {
            let (_, theirs) = UnixDatagram::pair().unwrap();
            Tap::from_packet_socket(OwnedFd::from(theirs)).unwrap()
        });
        let refused = Net::new(config(), taps.collect());
        assert!(matches!(refused, Err(NetError::Pairs(wrong)) if wrong == count));
    }
}
