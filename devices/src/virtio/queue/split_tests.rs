use super::*;
use crate::testing::Part as RequestPart;
use crate::virtio::queue::MAX_CHAIN_LEN;
use crate::virtio::queue::tests::{EVENT_IDX, Setup, assert_broken, setup};
use vm_memory::GuestAddressSpace;

#[test]
fn malformed_chains_break_the_queue_once_and_for_all() {
    let loops = |setup: &mut Setup| {
        setup.guest.write(
            setup.driver.state.descriptor_table,
            &[0, 16, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0],
        );
        setup.driver.publish(0);
    };
    let wrong_order = |setup: &mut Setup| {
        setup.driver.add_raw(&[(4096, 1, true), (4096, 1, false)]);
    };
    let bad_head = |setup: &mut Setup| setup.driver.publish(8);
    let too_many = |setup: &mut Setup| (0..9).for_each(|_| setup.driver.publish(0));
    let too_long = |setup: &mut Setup| {
        setup.driver.add_raw(&[(4096, u32::MAX, true), (4096, 2, true)]);
    };
    let nested = |setup: &mut Setup| {
        // An indirect table whose first entry is one, too.
        let table = setup.driver.state.descriptor_table;
        let entry = [&table.to_le_bytes()[..], &16u32.to_le_bytes(), &[4, 0, 0, 0]].concat();
        setup.guest.write(table, &entry);
        setup.driver.publish(0);
    };
    let many = |setup: &mut Setup| {
        setup.driver.set_indirect(true);
        setup.driver.add_raw(&vec![(4096, 1, true); MAX_CHAIN_LEN + 1]);
    };
    let empty_table = |setup: &mut Setup| {
        setup.driver.set_indirect(true);
        setup.driver.add(&[RequestPart::Write(1)]);
        // The table has no entries.
        setup
            .guest
            .write(setup.driver.state.descriptor_table + 8, &[0; 4]);
    };
    type Break<'a> = &'a dyn Fn(&mut Setup);
    let breaks: [(&str, Break); 8] = [
        ("loops", &loops),
        ("wrong order", &wrong_order),
        ("bad head", &bad_head),
        ("too many", &too_many),
        ("too long", &too_long),
        ("nested", &nested),
        ("many", &many),
        ("empty table", &empty_table),
    ];
    for (case, breaks) in breaks {
        let mut setup = setup(8, 0);
        breaks(&mut setup);
        assert_broken(&mut setup, case);
    }
}

/// The counters of the rings run through all numbers of 16 bits (§2.7.6, §2.7.8): all holds wherever they are.
#[test]
fn chains_come_and_go_at_every_position_of_the_counters() {
    const SIZE: u16 = 4;
    let Setup {
        mut driver,
        mut queue,
        interrupt,
        ..
    } = setup(SIZE, EVENT_IDX);
    let mut position = 0_u32;
    while position <= u32::from(u16::MAX) + u32::from(SIZE) {
        // Batches of all sizes, none of which divides the number of positions.
        let batch = 1 + position as u16 % SIZE;
        position += u32::from(batch);
        driver.want_interrupt();
        assert!(!queue.enable_notification());
        let added: Vec<_> = (0..batch).map(|_| driver.add_raw(&[(4096, 1, true)])).collect();
        assert!(driver.device_wants_notification(), "{position}");
        let mut taken: Vec<_> = (0..batch).map(|_| (queue.pop().unwrap().head, 1)).collect();
        assert!(taken.iter().map(|(head, _)| head).eq(&added), "{position}");
        assert!(queue.pop().is_none(), "{position}");
        taken.reverse();
        queue.add_used_together(&taken);
        let before = interrupt.count();
        queue.signal();
        assert_eq!(interrupt.count(), before + 1, "{position}");
        let back = std::iter::from_fn(|| driver.poll().map(|(head, ..)| head));
        assert!(back.eq(added.into_iter().rev()), "{position}");
    }
}

/// At all positions, for all small numbers of chains given back, and all places near them that a driver may wait for: the
/// interrupt comes exactly if the place is among them (§2.7.7.2).
#[test]
fn the_interrupt_comes_exactly_at_the_entry_that_was_named() {
    const SIZE: u16 = 4;
    let setup = setup(SIZE, EVENT_IDX);
    let ram = setup.guest.memory().memory();
    let state = setup.driver.state;
    let named = GuestAddress(state.available_ring + 4 + 2 * u64::from(SIZE));
    let mut split = Split::new(0, SIZE, &state, true).unwrap();
    for start in 0..=u16::MAX {
        for count in 0..=SIZE {
            for ahead in -2..=i32::from(SIZE) + 1 {
                split.told = start;
                split.queue.set_next_used(start.wrapping_add(count));
                let event = start.wrapping_add(ahead as u16);
                ram.store(event.to_le(), named, Ordering::Relaxed).unwrap();
                let among = (0..i32::from(count)).contains(&ahead);
                assert_eq!(split.wants_interrupt(&ram), among, "{start} {count} {ahead}");
            }
        }
    }
}
