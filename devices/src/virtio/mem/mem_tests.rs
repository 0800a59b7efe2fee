use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;
const BLOCK: u64 = 2 * MIB;
/// In the tests' memory, above what their queues use.
const REGION: u64 = 32 * MIB;

fn config() -> Config {
    Config {
        address: REGION,
        region_bytes: 16 * MIB,
        block_bytes: BLOCK,
        node: 3,
        requested_bytes: 8 * MIB,
    }
}

fn harness() -> Harness {
    Harness::new(Mem::new(config()).unwrap(), 0)
}

fn message(kind: u16, address: u64, count: u16) -> Vec<u8> {
    let mut bytes = vec![0; 24];
    bytes[..2].copy_from_slice(&kind.to_le_bytes());
    bytes[8..16].copy_from_slice(&address.to_le_bytes());
    bytes[16..18].copy_from_slice(&count.to_le_bytes());
    bytes
}

/// Type and state of the answer.
fn ask(harness: &mut Harness, kind: u16, address: u64, count: u16) -> (u8, u8) {
    let (len, answer) = harness.request(0, &[Part::Read(message(kind, address, count)), Part::Write(10)]);
    assert_eq!(len, 10);
    (answer[0], answer[8])
}

const PLUG: u16 = 0;
const UNPLUG: u16 = 1;
const UNPLUG_ALL: u16 = 2;
const STATE: u16 = 3;
const ACK: u8 = 0;
const NACK: u8 = 1;
const ERROR: u8 = 3;

fn config_u64(harness: &Harness, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    harness.device.config().read(offset, &mut bytes);
    u64::from_le_bytes(bytes)
}

#[test]
fn the_driver_finds_region_blocks_and_what_is_requested() {
    let harness = harness();
    let all = [0, 8, 16, 24, 32, 40, 48].map(|offset| config_u64(&harness, offset));
    assert_eq!(all, [BLOCK, 3, REGION, 16 * MIB, 16 * MIB, 0, 8 * MIB]);
}

#[test]
fn blocks_are_plugged_up_to_what_is_requested() {
    let mut harness = harness();
    assert_eq!(ask(&mut harness, STATE, REGION, 8), (ACK, 1));
    assert_eq!(ask(&mut harness, PLUG, REGION + BLOCK, 3), (ACK, 0));
    assert_eq!(ask(&mut harness, STATE, REGION, 8), (ACK, 2));
    assert_eq!(ask(&mut harness, STATE, REGION + BLOCK, 3), (ACK, 0));
    assert_eq!(ask(&mut harness, PLUG, REGION + 4 * BLOCK, 2).0, NACK);
    assert_eq!(ask(&mut harness, PLUG, REGION + 4 * BLOCK, 1).0, ACK);
    assert_eq!(config_u64(&harness, 40), 8 * MIB);
    let metrics = harness.device.metrics();
    assert_eq!(
        (metrics["plugged_bytes"].as_u64(), metrics["refused"].as_u64()),
        (Some(8 * MIB), Some(1))
    );
}

#[test]
fn unplugged_memory_goes_back_to_the_host() {
    let mut harness = harness();
    ask(&mut harness, PLUG, REGION, 2);
    harness.guest.write(REGION, &[7]);
    harness.guest.write(REGION + BLOCK, &[7]);
    assert_eq!(ask(&mut harness, UNPLUG, REGION, 1).0, ACK);
    assert_eq!(harness.guest.read(REGION, 1), [0]);
    assert_eq!(harness.guest.read(REGION + BLOCK, 1), [7]);
    // Touched without being plugged.
    harness.guest.write(REGION + 5 * BLOCK, &[7]);
    assert_eq!(ask(&mut harness, UNPLUG_ALL, 0, 0).0, ACK);
    assert_eq!(harness.guest.read(REGION + BLOCK, 1), [0]);
    assert_eq!(harness.guest.read(REGION + 5 * BLOCK, 1), [0]);
    assert_eq!(config_u64(&harness, 40), 0);
}

#[test]
fn requests_that_make_no_sense_change_nothing() {
    let mut harness = harness();
    ask(&mut harness, PLUG, REGION, 2);
    for (kind, address, count) in [
        (PLUG, REGION + 1, 1),
        (PLUG, REGION + MIB, 1),
        (PLUG, REGION, 1),
        (PLUG, REGION + BLOCK, 2),
        (PLUG, REGION + 2 * BLOCK, 0),
        (PLUG, REGION + 7 * BLOCK, 2),
        (PLUG, REGION - BLOCK, 1),
        (PLUG, u64::MAX - BLOCK + 1, 1),
        (PLUG, 0, u16::MAX),
        (UNPLUG, REGION + BLOCK, 2),
        (UNPLUG, REGION + 2 * BLOCK, 1),
        (STATE, REGION + 16 * MIB, 1),
        (4, REGION, 1),
        (u16::MAX, REGION, 1),
    ] {
        assert_eq!(
            ask(&mut harness, kind, address, count).0,
            ERROR,
            "{kind} {address:#x} {count}"
        );
    }
    assert_eq!(config_u64(&harness, 40), 2 * BLOCK);
    let short = message(PLUG, REGION + 4 * BLOCK, 1)[..20].to_vec();
    let (_, answer) = harness.request(0, &[Part::Read(short), Part::Write(10)]);
    assert_eq!(answer[0], ERROR);
    let whole = message(STATE, REGION, 1);
    assert_eq!(
        harness.request(0, &[Part::Read(whole), Part::Write(9)]).0,
        0,
        "no room for an answer"
    );
}

#[test]
fn a_new_requested_size_reaches_the_driver() {
    let mut harness = harness();
    let answer = harness
        .device
        .update(json!({"requested_bytes": 12 * MIB}))
        .wait(PATIENCE)
        .unwrap();
    assert_eq!(answer, json!({"requested_bytes": 12 * MIB, "plugged_bytes": 0}));
    assert_eq!(
        (harness.interrupt.config_changes(), config_u64(&harness, 48)),
        (1, 12 * MIB)
    );
    for wrong in [MIB, 18 * MIB, u64::MAX] {
        let refused = harness
            .device
            .update(json!({"requested_bytes": wrong}))
            .wait(PATIENCE);
        let problem = refused.unwrap_err().to_string();
        assert!(
            problem.contains("use a multiple of 2097152 up to 16777216"),
            "{problem}"
        );
    }
}

#[test]
fn a_reset_keeps_blocks_and_a_saved_device_has_them_again() {
    let mut harness = harness();
    ask(&mut harness, PLUG, REGION + BLOCK, 2);
    harness.device.reset();
    harness.activate(0);
    assert_eq!(ask(&mut harness, STATE, REGION + BLOCK, 2), (ACK, 0));
    harness.device.pause().unwrap();
    let state: State = serde_json::from_value(harness.device.save().unwrap()).unwrap();
    assert_eq!((state.plugged.len(), &state.plugged[0]), (1, &(1..3)));
    assert_eq!(Mem::restore(state.clone()).unwrap().save(), state);
    for outside in [7..9, std::ops::Range { start: 3, end: 2 }, 0..usize::MAX] {
        let plugged = std::iter::once(outside).collect();
        let state = State {
            plugged,
            ..state.clone()
        };
        assert!(Mem::restore(state).is_err());
    }
}

#[test]
fn regions_that_are_no_blocks_are_refused() {
    for (address, region_bytes, block_bytes) in [
        (REGION, 3 * MIB, BLOCK),
        (REGION + MIB, 16 * MIB, BLOCK),
        (REGION, 16 * MIB, 3 * MIB),
        (u64::MAX - BLOCK + 1, BLOCK, BLOCK),
    ] {
        let config = Config {
            address,
            region_bytes,
            block_bytes,
            ..config()
        };
        assert!(matches!(Mem::new(config), Err(MemError::Region { .. })));
    }
    let config = Config {
        requested_bytes: 17 * MIB,
        ..config()
    };
    assert!(matches!(Mem::new(config), Err(MemError::Requested(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn plugged_never_exceeds_requested_and_answers_agree_with_what_is_plugged(
        requests in proptest::collection::vec((0u16..5, 0u64..10, 0u16..6), 1..30),
    ) {
        let mut harness = harness();
        for (kind, block, count) in requests {
            ask(&mut harness, kind, REGION + block * BLOCK, count);
            let plugged = config_u64(&harness, 40);
            prop_assert!(plugged <= 8 * MIB && plugged.is_multiple_of(BLOCK));
            let counted = (0..8).filter(|block| ask(&mut harness, STATE, REGION + block * BLOCK, 1) == (ACK, 0));
            prop_assert_eq!(counted.count() as u64 * BLOCK, plugged);
        }
    }
}
