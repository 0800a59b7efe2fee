//! The control queue at work, and what the host changes while the card works.

use super::tests::{MERGEABLE, card, frame, with_header};
use super::*;
use crate::testing::{Guest, Harness, Part, TestMsi, machine};
use crate::virtio::device::VirtioDevice;
use crate::virtio::transport::pci::VirtioPci;
use crate::virtio::update::UpdateError;
use crate::virtio::worker::Virtio;
use header::HEADER_LEN;
use serde_json::json;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const FEATURES: u64 = 1 << features::CTRL_VQ
    | 1 << features::CTRL_RX
    | 1 << features::CTRL_RX_EXTRA
    | 1 << features::CTRL_MAC_ADDR
    | 1 << features::CTRL_GUEST_OFFLOADS
    | 1 << features::GUEST_CSUM
    | 1 << features::GUEST_ANNOUNCE
    | 1 << features::STATUS;
const MINE: [u8; 6] = [0x10, 0x66, 0x6a, 1, 2, 3];
const ANOTHER: [u8; 6] = [0x10, 0x66, 0x6a, 9, 9, 9];

/// Sends a command; gives the answer.
pub(super) fn command(harness: &mut Harness, queue: usize, command: &[u8]) -> u8 {
    let (head, data) = command.split_at(2);
    let mut parts = vec![Part::Read(head.to_vec())];
    if !data.is_empty() {
        parts.push(Part::Read(data.to_vec()));
    }
    parts.push(Part::Write(1));
    let (len, answer) = harness.request(queue, &parts);
    assert_eq!(len, 1);
    answer[0]
}

fn to(address: [u8; 6], seed: u8) -> Vec<u8> {
    let mut frame = frame(60, seed);
    frame[..6].copy_from_slice(&address);
    frame
}

fn space(harness: &Harness, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    harness.device.config().read(offset, &mut bytes);
    bytes
}

fn status(harness: &Harness) -> u8 {
    space(harness, 6, 1)[0]
}

fn update(harness: &mut Harness, update: serde_json::Value) -> UpdateResult {
    harness.device.update(update).wait(crate::testing::PATIENCE)
}

/// Gives the card buffers and sends a frame from the wire to each address; returns the seeds of those that arrive.
fn arriving(harness: &mut Harness, wire: &UnixDatagram, addresses: &[[u8; 6]]) -> Vec<u8> {
    for (address, seed) in addresses.iter().zip(0..) {
        wire.send(&with_header(&to(*address, seed))).unwrap();
    }
    // One that everybody sees, to know when all have been looked at.
    let last = addresses.len() as u8;
    wire.send(&with_header(&to([0xff; 6], last))).unwrap();
    let mut seen = Vec::new();
    loop {
        harness.queues[RECEIVE].add(&[Part::Write(2048)]);
        harness.queues[RECEIVE].kick();
        let bytes = harness.next_used(RECEIVE).unwrap().2;
        match bytes[HEADER_LEN + 6].wrapping_sub(6) {
            seed if seed == last => return seen,
            seed => seen.push(seed),
        }
    }
}

#[test]
fn the_driver_chooses_which_frames_it_sees() {
    let (mut harness, wire) = card(FEATURES | MERGEABLE);
    let group = [0x33, 0x33, 0, 0, 0, 1];
    let addresses = [MINE, ANOTHER, group];
    assert_eq!(arriving(&mut harness, &wire, &addresses), [0, 1, 2]);
    assert_eq!(command(&mut harness, CONTROL, &[0, 0, 0]), control::OK);
    assert_eq!(arriving(&mut harness, &wire, &addresses), [0]);
    assert_eq!(command(&mut harness, CONTROL, &[0, 1, 1]), control::OK);
    assert_eq!(arriving(&mut harness, &wire, &addresses), [0, 2]);
    let tables = [&[1, 0, 1, 0, 0, 0][..], &ANOTHER, &[0, 0, 0, 0]].concat();
    assert_eq!(command(&mut harness, CONTROL, &tables), control::OK);
    assert_eq!(arriving(&mut harness, &wire, &addresses), [0, 1, 2]);
    assert_eq!(harness.device.metrics()["receive_filtered"], 3);
    assert_eq!(harness.device.metrics()["commands"], 3);
    // A new driver sees everything again.
    harness.device.reset();
    harness.activate(0);
    assert_eq!(arriving(&mut harness, &wire, &addresses), [0, 1, 2]);
}

#[test]
fn frames_that_come_by_way_of_the_cards_own_buffer_are_filtered_too() {
    // Too little room for the longest frame.
    let (mut harness, wire) = card(FEATURES | MERGEABLE | 1 << features::GUEST_TSO4);
    command(&mut harness, CONTROL, &[0, 0, 0]);
    assert_eq!(arriving(&mut harness, &wire, &[ANOTHER, MINE]), [1]);
}

#[test]
fn the_driver_has_another_address() {
    let (mut harness, wire) = card(FEATURES);
    command(&mut harness, CONTROL, &[0, 0, 0]);
    let set = [&[1, 1][..], &ANOTHER].concat();
    assert_eq!(command(&mut harness, CONTROL, &set), control::OK);
    assert_eq!(space(&harness, 0, 6), ANOTHER);
    assert_eq!(arriving(&mut harness, &wire, &[MINE, ANOTHER]), [1]);
    // One of a group is no card's own.
    assert_eq!(
        command(&mut harness, CONTROL, &[1, 1, 1, 0, 0, 0, 0, 1]),
        control::ERR
    );
    harness.device.reset();
    assert_eq!(space(&harness, 0, 6), MINE);
}

#[test]
fn what_is_no_command_is_refused_and_the_queue_goes_on() {
    let (mut harness, _wire) = card(FEATURES);
    for bad in [
        &[9, 9][..],
        &[0, 0],
        &[4, 0, 1, 0],
        &[5, 0, 0x81, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(command(&mut harness, CONTROL, bad), control::ERR, "{bad:?}");
    }
    // No room for an answer, nothing but room for one, memory that is not there.
    assert_eq!(harness.request(CONTROL, &[Part::Read(vec![0, 0, 1])]).0, 0);
    assert_eq!(
        harness.request(CONTROL, &[Part::Write(1)]),
        (1, vec![control::ERR])
    );
    let answer = harness.guest.alloc(1);
    harness.queues[CONTROL].add_raw(&[(1 << 50, 64, false), (answer, 1, true)]);
    harness.queues[CONTROL].kick();
    assert_eq!(harness.next_used(CONTROL).unwrap().2, [control::ERR]);
    assert_eq!(
        command(&mut harness, CONTROL, &[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]),
        control::OK
    );
    assert_eq!(harness.device.metrics()["refused_commands"], 6);
}

#[test]
fn a_driver_without_control_queue_gets_no_answers() {
    let (mut harness, _wire) = card(0);
    harness.queues[CONTROL].add(&[Part::Read(vec![0, 0, 1]), Part::Write(1)]);
    harness.queues[CONTROL].kick();
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 0)))]);
    assert_eq!(harness.queues[CONTROL].in_flight(), 1);
}

#[test]
fn a_card_without_cable_loses_frames_both_ways() {
    let (mut harness, wire) = card(FEATURES);
    assert_eq!(status(&harness), 1);
    let answer = update(&mut harness, json!({"link_up": false})).unwrap();
    assert_eq!(answer["link_up"], false);
    assert_eq!((status(&harness), harness.interrupt.config_changes()), (0, 1));
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 1)))]);
    wire.send(&with_header(&frame(60, 2))).unwrap();
    // It is thrown away although the driver has no buffers.
    let lost = |harness: &Harness| harness.device.metrics()["receive_drops"] == 1;
    assert!(harness.interrupt.wait(|| lost(&harness)));
    assert_eq!(harness.device.metrics()["transmit_drops"], 1);
    // Once more changes nothing.
    update(&mut harness, json!({"link_up": false})).unwrap();
    assert_eq!(harness.interrupt.config_changes(), 1);
    update(&mut harness, json!({"link_up": true})).unwrap();
    assert_eq!((status(&harness), harness.interrupt.config_changes()), (1, 2));
    assert_eq!(arriving(&mut harness, &wire, &[MINE]), [0]);
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 3)))]);
    let mut bytes = [0; 100];
    assert_eq!(wire.recv(&mut bytes).unwrap(), HEADER_LEN + 60);
    assert_eq!(bytes[HEADER_LEN..HEADER_LEN + 60], frame(60, 3));
}

#[test]
fn the_driver_announces_itself_when_it_is_asked_to() {
    let (mut harness, _wire) = card(FEATURES);
    update(&mut harness, json!({"announce": true})).unwrap();
    assert_eq!((status(&harness), harness.interrupt.config_changes()), (3, 1));
    assert_eq!(command(&mut harness, CONTROL, &[3, 0]), control::OK);
    assert_eq!(status(&harness), 1);
    harness.device.reset();
    harness.activate(0);
    let refused = update(&mut harness, json!({"announce": true, "link_up": false}));
    assert!(matches!(refused, Err(UpdateError::Refused(_))));
    assert_eq!(status(&harness), 1);
}

#[test]
fn updates_that_make_no_sense_change_nothing() {
    let (mut harness, _wire) = card(FEATURES);
    for wrong in [
        json!({"link": true}),
        json!({"link_up": 1}),
        json!(1),
        json!({"limits": {"rx": {}}}),
        json!({"link_up": false, "limits": {"transmit": {"bytes_burst": 1000}}}),
    ] {
        assert!(matches!(
            update(&mut harness, wrong),
            Err(UpdateError::Invalid(_))
        ));
    }
    assert_eq!(harness.interrupt.config_changes(), 0);
}

#[test]
fn limits_change_while_frames_wait() {
    let (mut harness, wire) = card(0);
    let one_an_hour = json!({"operations_per_second": 1, "operations_burst": 1});
    let limits = json!({"limits": {"receive": one_an_hour, "transmit": one_an_hour}});
    update(&mut harness, limits).unwrap();
    for seed in 0..20 {
        harness.queues[TRANSMIT].add(&[Part::Read(with_header(&frame(60, seed)))]);
        harness.queues[RECEIVE].add(&[Part::Write(2048)]);
        wire.send(&with_header(&frame(60, seed))).unwrap();
    }
    harness.queues[TRANSMIT].kick();
    harness.queues[RECEIVE].kick();
    let throttled = |harness: &Harness| harness.device.metrics()["throttled"].as_u64() >= Some(2);
    assert!(harness.interrupt.wait(|| throttled(&harness)));
    assert!(harness.queues[TRANSMIT].in_flight() > 0);
    let answer = update(&mut harness, json!({"limits": {}})).unwrap();
    assert_eq!(answer["limits"], json!({"receive": {}, "transmit": {}}));
    for seed in 0..20 {
        let bytes = harness.next_used(RECEIVE).unwrap().2;
        assert_eq!(bytes[HEADER_LEN..HEADER_LEN + 60], frame(60, seed));
        let mut bytes = [0; 100];
        wire.recv(&mut bytes).unwrap();
        assert_eq!(bytes[HEADER_LEN..HEADER_LEN + 60], frame(60, seed));
    }
}

#[test]
fn a_restored_card_is_as_the_driver_and_the_host_set_it() {
    let (mut harness, _wire) = card(FEATURES);
    for bytes in [
        &[0, 0, 0][..],
        &[&[1, 1][..], &ANOTHER].concat(),
        &[&[1, 0, 1, 0, 0, 0][..], &[2; 6], &[1, 0, 0, 0], &[1; 6]].concat(),
        &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(command(&mut harness, CONTROL, bytes), control::OK);
    }
    update(&mut harness, json!({"link_up": false, "announce": true})).unwrap();
    update(
        &mut harness,
        json!({"limits": {"transmit": {"bytes_per_second": 1000}}}),
    )
    .unwrap();
    harness.device.pause().unwrap();
    let saved = harness.device.save().unwrap();
    let state: State = serde_json::from_value(saved.clone()).unwrap();
    let (_wire, theirs) = UnixDatagram::pair().unwrap();
    let tap = Tap::from_packet_socket(OwnedFd::from(theirs)).unwrap();
    let again = Virtio::new(Net::restore(state.clone(), vec![tap]).unwrap());
    assert_eq!(again.save().unwrap(), saved);
    // Nor does the transport forget it when it takes over what it saved.
    let mut transport = VirtioPci::new(Box::new(again), &TestMsi::default(), machine(&Guest::new())).unwrap();
    transport.restore_into(transport.save()).unwrap();
    let mut bytes = [0; 8];
    transport.device().config().read(0, &mut bytes);
    assert_eq!(bytes[..6], ANOTHER);
    assert_eq!(bytes[6..], [2, 0]);
    for active_pairs in [0, 2] {
        let driver = DriverState {
            active_pairs,
            ..state.driver.clone()
        };
        let wrong = State {
            driver,
            ..state.clone()
        };
        let (_wire, theirs) = UnixDatagram::pair().unwrap();
        let tap = Tap::from_packet_socket(OwnedFd::from(theirs)).unwrap();
        assert!(matches!(
            Net::restore(wrong, vec![tap]),
            Err(NetError::SavedPairs { .. })
        ));
    }
}

#[test]
fn a_driver_that_gives_no_buffers_can_still_send_pause_and_reset() {
    let (mut harness, wire) = card(FEATURES);
    wire.set_nonblocking(true).unwrap();
    while wire.send(&with_header(&frame(1000, 0))).is_ok() {}
    let waits = |harness: &Harness| harness.device.metrics()["receive_waits"].as_u64() >= Some(1);
    assert!(harness.interrupt.wait(|| waits(&harness)));
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 1)))]);
    harness.device.pause().unwrap();
    harness.device.resume().unwrap();
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 2)))]);
    harness.device.reset();
    harness.activate(0);
    harness.request(TRANSMIT, &[Part::Read(with_header(&frame(60, 3)))]);
    assert_eq!(harness.device.metrics()["received_frames"], 0);
}

#[test]
fn a_wire_that_is_full_loses_nothing() {
    let (mut harness, wire) = card(FEATURES);
    let count = 200_u8;
    for seed in 0..count {
        harness.queues[TRANSMIT].add(&[Part::Read(with_header(&frame(1400, seed)))]);
    }
    harness.queues[TRANSMIT].kick();
    let waits = |harness: &Harness| harness.device.metrics()["transmit_waits"].as_u64() >= Some(1);
    assert!(harness.interrupt.wait(|| waits(&harness)));
    // The card does nothing but wait meanwhile.
    let before = harness.device.metrics()["transmit_waits"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    let after = harness.device.metrics()["transmit_waits"].as_u64().unwrap();
    assert!(after - before < 5, "{before} {after}");
    for seed in 0..count {
        let mut bytes = vec![0; 2000];
        let len = wire.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..len], with_header(&frame(1400, seed)));
    }
    assert_eq!(harness.device.metrics()["transmit_drops"], 0);
}
