use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use crate::virtio::device::VirtioDevice;
use crate::virtio::worker::Virtio;
use proptest::prelude::*;

const ALL: u64 = 1 << feature::STATISTICS | 1 << feature::HINTING | 1 << feature::REPORTING;
const MIB: u64 = 1 << 20;

fn config() -> Config {
    Config {
        memory_bytes: 64 * MIB,
        target_bytes: 0,
        deflate_on_oom: true,
        reporting: true,
        statistics_interval_s: 0,
    }
}

fn harness(features: u64) -> Harness {
    Harness::new(Balloon::new(config()).unwrap(), features)
}

fn numbers(pages: &[u32]) -> Part {
    Part::Read(pages.iter().flat_map(|page| page.to_le_bytes()).collect())
}

fn config_u32(harness: &Harness, offset: u64) -> u32 {
    harness.device.config().read_u32(offset)
}

#[test]
fn pages_in_the_balloon_go_back_to_the_host() {
    let mut harness = harness(ALL);
    harness.guest.write(8 * MIB, &[7; 5 * 4096]);
    let first = (8 * MIB / 4096) as u32;
    harness.request(0, &[numbers(&[first + 2, first, first + 1, first + 1])]);
    assert_eq!(harness.guest.read(8 * MIB, 3 * 4096), vec![0; 3 * 4096]);
    assert_eq!(harness.guest.read(8 * MIB + 3 * 4096, 1), [7]);
    harness.request(1, &[numbers(&[first, first + 1])]);
    let metrics = harness.device.metrics();
    assert_eq!(metrics["inflated_bytes"], 4 * 4096);
    assert_eq!(metrics["discarded_bytes"], 3 * 4096);
    assert_eq!(metrics["deflated_bytes"], 2 * 4096);
    assert_eq!(metrics["failures"], 0);
}

#[test]
fn pages_that_the_guest_does_not_have_are_counted_and_nothing_else() {
    let mut harness = harness(ALL);
    for pages in [&[u32::MAX][..], &[u32::MAX - 1], &[(64 * MIB / 4096) as u32], &[]] {
        harness.request(0, &[numbers(pages)]);
    }
    harness.queues[0].add_raw(&[(u64::MAX - 4, 8, false)]);
    harness.queues[0].kick();
    harness.next_used(0).unwrap();
    assert_eq!(
        harness.device.metrics()["failures"],
        4,
        "the last number of all is ignored"
    );
    assert!(!harness.interrupt.asked_for_reset());
}

#[test]
fn requests_of_any_length_are_bounded() {
    let mut harness = harness(ALL);
    // A gigabyte of page numbers, most of which is not there, and more numbers than are looked at.
    harness.queues[0].add_raw(&[(16 * MIB, 1 << 30, false)]);
    harness.queues[0].add_raw(&[(16 * MIB, 4 * (MAX_PAGES as u32 + 1000), false)]);
    harness.queues[0].kick();
    harness.next_used(0).unwrap();
    harness.next_used(0).unwrap();
    assert_eq!(
        harness.device.metrics()["inflated_bytes"],
        2 * MAX_PAGES as u64 * 4096
    );
}

#[test]
fn a_new_target_reaches_the_driver_and_the_drivers_answer_the_host() {
    let mut harness = harness(ALL);
    let answer = harness
        .device
        .update(json!({"target_bytes": 16 * MIB}))
        .wait(PATIENCE)
        .unwrap();
    assert_eq!(
        (answer["target_bytes"].as_u64(), answer["actual_bytes"].as_u64()),
        (Some(16 * MIB), Some(0))
    );
    assert_eq!(harness.interrupt.config_changes(), 1);
    assert_eq!(config_u32(&harness, 0), 4096);
    harness.device.write_config(4, &4000u32.to_le_bytes());
    harness.device.write_config(0, &1u32.to_le_bytes());
    assert_eq!(harness.device.metrics()["actual_bytes"], 4000 * 4096);
    assert_eq!(harness.device.metrics()["target_bytes"], 16 * MIB);
    let refused = harness
        .device
        .update(json!({"target_bytes": 65 * MIB}))
        .wait(PATIENCE);
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("more than the guest has")
    );
}

#[test]
fn reported_pages_go_back_to_the_host() {
    for (features, queue) in [
        (ALL, 4),
        (1 << feature::REPORTING, 2),
        (1 << feature::REPORTING, 4),
    ] {
        let mut harness = harness(features);
        harness.guest.write(8 * MIB, &[7; 4 * 4096]);
        harness.queues[queue].add_raw(&[(8 * MIB, 8192, true), (8 * MIB + 3 * 4096, 4096, true)]);
        harness.queues[queue].kick();
        harness.next_used(queue).unwrap();
        let bytes = [0, 8192, 3 * 4096].map(|at| harness.guest.read(8 * MIB + at, 1)[0]);
        assert_eq!(bytes, [0, 7, 0]);
        assert_eq!(harness.device.metrics()["reported_bytes"], 3 * 4096);
        harness.queues[queue].add_raw(&[(1 << 40, 4096, true)]);
        harness.queues[queue].kick();
        assert!(
            harness
                .interrupt
                .wait(|| harness.device.metrics()["failures"] == 1)
        );
    }
}

#[test]
fn guests_are_asked_for_statistics_at_the_interval() {
    // In split and packed queues, with event indexes and without.
    for ring in [0, 1 << 29, 1 << 34, 1 << 34 | 1 << 29] {
        asks_for_statistics(ring);
    }
}

fn asks_for_statistics(ring: u64) {
    let mut harness = harness(ALL | ring);
    let entry = |tag: u16, value: u64| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    harness.queues[2].add(&[Part::Read(
        [entry(4, 1000), entry(5, 2000), entry(77, 1)].concat(),
    )]);
    harness.queues[2].kick();
    assert!(
        harness
            .interrupt
            .wait(|| harness.device.metrics()["guest"]["updates"] == 1)
    );
    let guest = &harness.device.metrics()["guest"];
    assert_eq!(
        (guest["free_bytes"].as_u64(), guest["total_bytes"].as_u64()),
        (Some(1000), Some(2000))
    );
    harness
        .device
        .update(json!({"statistics_interval_s": 1}))
        .wait(PATIENCE)
        .unwrap();
    harness.next_used(2).expect("the buffer comes back");
    harness.queues[2].add(&[Part::Read(entry(4, 3000))]);
    harness.queues[2].kick();
    assert!(
        harness
            .interrupt
            .wait(|| harness.device.metrics()["guest"]["free_bytes"] == 3000)
    );
}

#[test]
fn a_run_of_hints_measures_free_memory_and_takes_none() {
    let mut harness = harness(ALL);
    harness.guest.write(8 * MIB, &[7; 4096]);
    // Nothing counts before there is a run.
    harness.queues[3].add_raw(&[(8 * MIB, 4096, true)]);
    harness.queues[3].kick();
    harness.next_used(3).unwrap();
    harness
        .device
        .update(json!({"hinting": "start"}))
        .wait(PATIENCE)
        .unwrap();
    assert_eq!(config_u32(&harness, 8), 2);
    harness.request(3, &[numbers(&[2])]);
    harness.queues[3].add_raw(&[(8 * MIB, 4 << 20, true)]);
    harness.queues[3].kick();
    harness.next_used(3).unwrap();
    harness.request(3, &[numbers(&[0])]);
    assert_eq!(config_u32(&harness, 8), 1, "the driver may have its pages back");
    let hinting = &harness.device.metrics()["hinting"];
    assert_eq!(*hinting, json!({"run": 2, "complete": 1, "free_bytes": 4 << 20}));
    assert_eq!(harness.guest.read(8 * MIB, 1), [7]);
    harness.device.reset();
    let refused = harness.device.update(json!({"hinting": "start"})).wait(PATIENCE);
    assert!(matches!(refused, Err(UpdateError::Refused(_))), "{refused:?}");
}

#[test]
fn a_saved_balloon_is_made_again_from_its_state() {
    let mut harness = harness(ALL);
    harness.queues[2].add(&[Part::Read(vec![0; 10])]);
    harness.queues[2].kick();
    assert!(
        harness
            .interrupt
            .wait(|| harness.device.metrics()["guest"]["updates"] == 1)
    );
    harness
        .device
        .update(json!({"target_bytes": MIB}))
        .wait(PATIENCE)
        .unwrap();
    harness.device.write_config(4, &10u32.to_le_bytes());
    harness.device.pause().unwrap();
    let state: State = serde_json::from_value(harness.device.save().unwrap()).unwrap();
    assert_eq!(
        (
            state.config.target_bytes,
            state.actual_bytes,
            state.held_statistics
        ),
        (MIB, 40960, Some(0))
    );
    assert_eq!(Balloon::restore(state.clone()).unwrap().save(), state);
    let again = Virtio::new(Balloon::restore(state).unwrap());
    assert_eq!(again.config().read_u32(0), 256);
}

#[test]
fn runs_join_what_is_adjacent() {
    assert_eq!(runs(&mut [5, 3, 4, 9, 9, u32::MAX, 0]), [0..1, 3..6, 9..10]);
}

proptest! {
    #[test]
    fn runs_hold_exactly_the_pages_that_were_named(mut pages in proptest::collection::vec(0u32..300, 0..100)) {
        let wanted: std::collections::BTreeSet<u32> = pages.iter().copied().collect();
        let runs = runs(&mut pages);
        let found: Vec<u32> = runs.iter().cloned().flatten().collect();
        prop_assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
        prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
    }
}
