use super::*;
use crate::testing::Part as RequestPart;
use crate::virtio::queue::tests::{EVENT_IDX, PACKED, Setup, assert_broken, notify, setup};
use crate::virtio::queue::{Queue, QueueError};

/// Puts a descriptor into the ring as the driver of the first round.
fn put(setup: &Setup, index: u64, address: u64, len: u32, flags: u16) {
    let place = setup.driver.state.descriptor_table + 16 * index;
    let flags = flags | AVAILABLE;
    let value = u128::from(flags) << 112 | u128::from(len) << 64 | u128::from(address);
    setup.guest.write(place, &value.to_le_bytes());
}

#[test]
fn malformed_chains_break_the_queue_once_and_for_all() {
    // A table of eight descriptors of one byte each lies at 0x10_0000.
    type Descriptors<'a> = &'a [(u64, u32, u16)];
    let table = 0x10_0000;
    let cases: [(&str, Descriptors); 10] = [
        ("without end", &[(4096, 1, NEXT); 8]),
        ("wrong order", &[(4096, 1, WRITE | NEXT), (4096, 1, 0)]),
        ("too long", &[(4096, u32::MAX, NEXT), (4096, 1, 0)]),
        ("chained table", &[(4096, 1, NEXT), (table, 16, INDIRECT)]),
        (
            "table with successor",
            &[(table, 16, INDIRECT | NEXT), (4096, 1, 0)],
        ),
        ("empty table", &[(table, 0, INDIRECT)]),
        ("half an entry", &[(table, 24, INDIRECT)]),
        ("huge table", &[(table, 0xffff_fff0, INDIRECT)]),
        ("table nowhere", &[(1 << 40, 16, INDIRECT)]),
        ("table at the end of all", &[(u64::MAX - 15, 32, INDIRECT)]),
    ];
    for (case, descriptors) in cases {
        let mut setup = setup(8, PACKED);
        for (index, (address, len, flags)) in descriptors.iter().enumerate() {
            put(&setup, index as u64, *address, *len, *flags);
        }
        assert_broken(&mut setup, case);
    }
}

#[test]
fn within_an_indirect_table_only_the_direction_counts() {
    let mut setup = setup(8, PACKED);
    let table = setup.guest.alloc(32);
    for (index, flags) in [(0, 0xfffd_u16), (1, 0xffff)] {
        let value = u128::from(flags) << 112 | 5 << 64 | 4096;
        setup.guest.write(table + 16 * index, &value.to_le_bytes());
    }
    put(&setup, 0, table, 32, INDIRECT | WRITE);
    let chain = setup.queue.pop().unwrap();
    assert_eq!((chain.readable.len(), chain.writable.len()), (5, 5));
}

#[test]
fn a_descriptor_is_available_only_in_its_own_round() {
    for wrap in [false, true] {
        let position = Position { index: 3, wrap };
        let available: Vec<u16> = [0, AVAILABLE, USED, AVAILABLE | USED]
            .into_iter()
            .filter(|flags| position.is_available(*flags))
            .collect();
        assert_eq!(available, [if wrap { AVAILABLE } else { USED }]);
        assert!(!position.is_available(position.used_flags()));
    }
}

#[test]
fn positions_go_forth_and_back_for_all_small_rings() {
    for size in 1..20 {
        for (index, wrap) in (0..size).flat_map(|index| [(index, false), (index, true)]) {
            for count in 0..=size {
                let start = Position { index, wrap };
                let mut position = start;
                position.advance(count, size);
                assert!(position.index < size);
                assert_eq!(position.wrap != wrap, index + count >= size);
                position.retreat(count, size);
                assert_eq!(position, start);
            }
        }
    }
}

/// All places and rounds of the descriptor that the driver waits for, and all numbers of descriptors given back: the
/// interrupt comes exactly if it is among them.
#[test]
fn the_interrupt_comes_exactly_at_the_descriptor_that_was_named() {
    const SIZE: u16 = 5;
    let mut setup = setup(SIZE, PACKED | EVENT_IDX);
    let ram = setup.guest.memory();
    let state = setup.driver.state.clone();
    for start in 0..2 * SIZE {
        for count in 1..=SIZE {
            // No driver waits for what is more than the ring ahead, or was seen long ago.
            for event in start..=start + SIZE {
                let mut packed = Packed::new(0, SIZE, &state, true).unwrap();
                packed.used.advance(start % SIZE, SIZE);
                packed.used.wrap ^= start >= SIZE;
                packed.used.advance(count, SIZE);
                packed.untold = u32::from(count);
                let wrap = (event / SIZE).is_multiple_of(2);
                let word = (event % SIZE) | (u16::from(wrap) << 15);
                let events = u32::from(word) | EVENTS_AT_DESCRIPTOR << 16;
                setup.guest.write(state.available_ring, &events.to_le_bytes());
                let ram = vm_memory::GuestAddressSpace::memory(&ram);
                let wanted = packed.wants_interrupt(&ram);
                // The one a whole ring ahead looks like the one a whole ring behind.
                if !(count == SIZE && event == start + SIZE) {
                    assert_eq!(wanted, event < start + count, "{start} {count} {event}");
                }
                assert!(!packed.wants_interrupt(&ram) || wanted);
            }
        }
    }
    // A place outside of the ring is nowhere, and harms nobody.
    let events = 0x7fff | EVENTS_AT_DESCRIPTOR << 16;
    setup.guest.write(state.available_ring, &events.to_le_bytes());
    setup.driver.add(&[RequestPart::Write(1)]);
    let head = setup.queue.pop().unwrap().head;
    setup.queue.add_used(head, 1);
    setup.queue.signal();
    assert_eq!(setup.interrupt.count(), 0);
}

#[test]
fn a_ring_of_any_size_is_served_round_after_round() {
    for size in [1, 3, 7, 8] {
        let mut setup = setup(size, PACKED);
        for round in 0..u32::from(size) * 5 {
            setup.driver.add(&[RequestPart::Write(8)]);
            let head = setup.queue.pop().unwrap().head;
            setup.queue.add_used(head, round);
            assert_eq!(setup.driver.poll().unwrap().1, round);
        }
    }
}

#[test]
fn a_saved_place_outside_of_the_ring_is_refused() {
    let setup = setup(8, PACKED);
    let state = QueueState {
        next_used: 8,
        ..setup.driver.state.clone()
    };
    let memory = setup.guest.memory();
    let made = Queue::new(1, 8, &state, PACKED, memory, setup.interrupt, notify());
    assert!(matches!(
        made.err(),
        Some(QueueError::Position {
            index: 1,
            next: 8,
            ..
        })
    ));
}

#[test]
fn what_is_given_back_twice_is_given_back_once() {
    let mut setup = setup(8, PACKED);
    setup.driver.add(&[RequestPart::Write(8)]);
    let head = setup.queue.pop().unwrap().head;
    setup.queue.add_used(head, 1);
    setup.queue.add_used(head, 1);
    setup.queue.undo_pop(head);
    assert!(setup.driver.poll().is_some());
    assert!(setup.driver.poll().is_none());
    assert!(setup.queue.pop().is_none());
}
