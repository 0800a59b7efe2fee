//! Frames of any length in buffers of any shape arrive whole or not at all.

use super::tests::{MERGEABLE, card, frame, with_header};
use super::*;
use crate::testing::{Harness, Part};
use header::{BUFFER_COUNT_OFFSET, HEADER_LEN};
use proptest::prelude::*;
use std::os::unix::net::UnixDatagram;

const PIECES: u64 = MERGEABLE | 1 << features::GUEST_CSUM;

fn count(harness: &Harness, counter: &str) -> u64 {
    harness.device.metrics()[counter].as_u64().unwrap()
}

/// Sends a frame from the wire; gives what the driver gets of it, nothing if it is lost.
fn receive(harness: &mut Harness, wire: &UnixDatagram, sent: &[u8]) -> Option<Vec<u8>> {
    let (received, dropped) = (count(harness, "received_frames"), count(harness, "receive_drops"));
    wire.send(sent).unwrap();
    let done = |harness: &Harness| {
        count(harness, "received_frames") + count(harness, "receive_drops") > received + dropped
    };
    assert!(harness.interrupt.wait(|| done(harness)));
    if count(harness, "received_frames") == received {
        return None;
    }
    let mut whole = Vec::new();
    let mut left = 1;
    while left > 0 {
        let (_, len, bytes) = harness.next_used(RECEIVE).unwrap();
        if whole.is_empty() {
            left = u16::from_le_bytes([bytes[BUFFER_COUNT_OFFSET], bytes[BUFFER_COUNT_OFFSET + 1]]);
        }
        whole.extend_from_slice(&bytes[..len as usize]);
        left -= 1;
    }
    Some(whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_from_the_wire_fit_or_are_lost(
        buffers in prop::collection::vec(prop::collection::vec(0_u32..2500, 1..4), 1..24),
        lens in prop::collection::vec(14_usize..5000, 1..12),
        features in prop::sample::select(vec![0, MERGEABLE, PIECES, PIECES | 1 << features::GUEST_TSO4]),
    ) {
        let (mut harness, wire) = card(features);
        let mut room = std::collections::VecDeque::new();
        for mut parts in buffers {
            // Room for the header is the driver's duty.
            parts[0] += HEADER_LEN as u32;
            room.push_back(parts.iter().sum::<u32>() as usize);
            let parts: Vec<_> = parts.into_iter().map(Part::Write).collect();
            harness.queues[RECEIVE].add(&parts);
        }
        harness.queues[RECEIVE].kick();
        for (len, seed) in lens.into_iter().zip(0..) {
            let mergeable = features & MERGEABLE != 0;
            let available = match mergeable {
                true => room.iter().sum(),
                false => room.front().copied().unwrap_or(0),
            };
            if room.is_empty() {
                break;
            }
            let sent = with_header(&frame(len, seed));
            match receive(&mut harness, &wire, &sent) {
                Some(mut received) => {
                    prop_assert!(sent.len() <= available);
                    // The number of buffers is the card's to say.
                    received[BUFFER_COUNT_OFFSET..HEADER_LEN].fill(0);
                    prop_assert_eq!(received, sent.clone());
                    let mut used = 0;
                    while used < sent.len() {
                        used += room.pop_front().unwrap();
                    }
                }
                None => prop_assert!(sent.len() > available || sent.len() > features::max_frame(features, 1500)),
            }
        }
    }

    #[test]
    fn frames_of_the_guest_arrive_however_they_are_cut(
        len in 1_usize..9000,
        cuts in prop::collection::vec(0_usize..9000, 0..12),
        indirect: bool,
    ) {
        let (mut harness, wire) = card(0);
        harness.queues[TRANSMIT].set_indirect(indirect);
        let sent = with_header(&frame(len, 9));
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (sent.len() + 1)).collect();
        cuts.extend([0, sent.len()]);
        cuts.sort_unstable();
        // Pieces may be empty.
        let parts: Vec<_> = cuts.windows(2).map(|cut| Part::Read(sent[cut[0]..cut[1]].to_vec())).collect();
        harness.request(TRANSMIT, &parts);
        let mut received = vec![0; sent.len() + 1];
        let len = wire.recv(&mut received).unwrap();
        prop_assert_eq!(&received[..len], &sent[..]);
    }
}
