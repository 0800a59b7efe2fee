use super::*;
use crate::testing::{Harness, Part};
use crate::virtio::device::VirtioDevice;
use crate::virtio::worker::Virtio;

#[test]
fn requests_are_filled_with_random_bytes() {
    let mut harness = Harness::new(Rng::new(Config::default()), 0);
    let (len, first) = harness.request(0, &[Part::Write(64)]);
    assert_eq!(len, 64);
    let (_, second) = harness.request(0, &[Part::Write(32), Part::Write(32)]);
    assert_ne!(first, second);
    assert_ne!(first, vec![0; 64]);
    assert_eq!(harness.device.metrics()["bytes"], 128);
}

#[test]
fn long_requests_are_answered_in_part_and_bad_addresses_not_at_all() {
    let mut harness = Harness::new(Rng::new(Config::default()), 0);
    let (len, _) = harness.request(0, &[Part::Write(10_000)]);
    assert_eq!(len, MAX_REQUEST as u32);
    harness.queues[0].add_raw(&[(u64::MAX - 10, 64, true)]);
    harness.queues[0].kick();
    assert!(
        harness
            .interrupt
            .wait(|| harness.device.metrics()["failures"] == 1)
    );
    assert!(!harness.interrupt.asked_for_reset());
}

#[test]
fn every_request_of_a_full_queue_is_served_with_event_index() {
    let mut harness = Harness::new(Rng::new(Config::default()), 1 << 29);
    for _ in 0..3 {
        for _ in 0..QUEUE_SIZE {
            harness.queues[0].add(&[Part::Write(16)]);
        }
        harness.queues[0].want_interrupt();
        harness.queues[0].kick();
        for _ in 0..QUEUE_SIZE {
            assert_eq!(harness.next_used(0).unwrap().1, 16);
        }
    }
}

#[test]
fn a_saved_device_is_made_again_from_its_state() {
    let device = Virtio::new(Rng::new(Config::default()));
    let state: State = serde_json::from_value(device.save().unwrap()).unwrap();
    assert_eq!(
        Rng::restore(state).save(),
        State {
            config: Config::default()
        }
    );
}
