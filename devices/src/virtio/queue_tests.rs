use super::*;
use crate::testing::{DriverQueue, Guest, Part, TestInterrupt};
use proptest::prelude::*;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

struct Setup {
    guest: Guest,
    driver: DriverQueue,
    queue: Queue,
    interrupt: Arc<TestInterrupt>,
}

fn setup(size: u16, event_idx: bool) -> Setup {
    let guest = Guest::new();
    let notify = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap();
    let driver = DriverQueue::new(&guest, size, notify.try_clone().unwrap());
    let interrupt = Arc::<TestInterrupt>::default();
    let queue = Queue::new(
        0,
        size,
        &driver.state,
        event_idx,
        guest.memory(),
        interrupt.clone(),
        notify,
    )
    .unwrap();
    Setup {
        guest,
        driver,
        queue,
        interrupt,
    }
}

#[test]
fn chains_arrive_in_order_with_their_parts() {
    for indirect in [false, true] {
        let Setup {
            guest,
            mut driver,
            mut queue,
            ..
        } = setup(8, false);
        driver.set_indirect(indirect);
        let first = driver.add(&[Part::Read(vec![1, 2, 3]), Part::Read(vec![4]), Part::Write(10)]);
        driver.add(&[Part::Write(7)]);
        let mut chain = queue.pop().unwrap();
        let mut bytes = [0; 4];
        chain.readable.read(&guest.memory().memory(), &mut bytes).unwrap();
        assert_eq!(
            (chain.head, bytes, chain.writable.len()),
            (first, [1, 2, 3, 4], 10)
        );
        assert_eq!(queue.pop().unwrap().writable.len(), 7);
        assert!(queue.pop().is_none());
        assert!(queue.is_ready());
    }
}

#[test]
fn a_chain_that_is_put_back_comes_again() {
    let Setup {
        mut driver,
        mut queue,
        ..
    } = setup(8, false);
    let head = driver.add(&[Part::Write(7)]);
    assert_eq!(queue.pop().unwrap().head, head);
    queue.undo_pop();
    assert_eq!(queue.pop().unwrap().head, head);
}

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
    type Break<'a> = &'a dyn Fn(&mut Setup);
    let breaks: [Break; 7] = [
        &loops,
        &wrong_order,
        &bad_head,
        &too_many,
        &too_long,
        &nested,
        &many,
    ];
    for (index, breaks) in breaks.into_iter().enumerate() {
        let mut setup = setup(8, false);
        breaks(&mut setup);
        assert!(setup.queue.pop().is_none(), "case {index}");
        assert!(!setup.queue.is_ready(), "case {index}");
        assert!(setup.interrupt.asked_for_reset(), "case {index}");
        let interrupts = setup.interrupt.count();
        setup.queue.add_used(0, 0);
        setup.queue.signal();
        assert!(setup.queue.pop().is_none());
        assert_eq!(setup.interrupt.count(), interrupts, "case {index}");
    }
}

#[test]
fn the_driver_is_interrupted_only_when_it_wants() {
    let Setup {
        guest,
        mut driver,
        mut queue,
        interrupt,
    } = setup(8, false);
    let mut serve = |driver: &mut DriverQueue| {
        driver.add(&[Part::Write(1)]);
        let head = queue.pop().unwrap().head;
        queue.add_used(head, 1);
        queue.signal();
        queue.signal();
    };
    serve(&mut driver);
    assert_eq!(interrupt.count(), 1);
    // VIRTQ_AVAIL_F_NO_INTERRUPT.
    guest.write(driver.state.available_ring, &[1, 0]);
    serve(&mut driver);
    assert_eq!(interrupt.count(), 1);
}

#[test]
fn with_event_index_one_interrupt_covers_many_buffers() {
    let Setup {
        mut driver,
        mut queue,
        interrupt,
        ..
    } = setup(8, true);
    driver.want_interrupt();
    for _ in 0..4 {
        driver.add(&[Part::Write(1)]);
        let head = queue.pop().unwrap().head;
        queue.add_used(head, 1);
        queue.signal();
    }
    assert_eq!(interrupt.count(), 1);
}

#[test]
fn notifications_that_come_between_two_looks_are_not_missed() {
    for event_idx in [false, true] {
        let Setup {
            mut driver,
            mut queue,
            ..
        } = setup(8, event_idx);
        queue.disable_notification();
        assert!(!queue.enable_notification());
        queue.disable_notification();
        driver.add(&[Part::Write(1)]);
        assert!(queue.enable_notification());
    }
}

#[test]
fn impossible_queues_are_refused_with_the_reason() {
    let Setup {
        guest,
        driver,
        interrupt,
        ..
    } = setup(8, false);
    let make = |state: &QueueState| {
        let notify = EventFd::new(EFD_NONBLOCK).unwrap();
        Queue::new(3, 8, state, false, guest.memory(), interrupt.clone(), notify).err()
    };
    for size in [0, 3, 16] {
        let state = QueueState {
            size,
            ..driver.state.clone()
        };
        assert!(matches!(make(&state), Some(QueueError::Size { index: 3, .. })));
    }
    let outside = crate::testing::MEMORY_SIZE - 16;
    for address in [0, 7, outside, u64::MAX - 15] {
        let good = driver.state.clone();
        for state in [
            QueueState {
                descriptor_table: address,
                ..good.clone()
            },
            QueueState {
                available_ring: address,
                ..good.clone()
            },
            QueueState {
                used_ring: address,
                ..good.clone()
            },
        ] {
            let refused = make(&state).is_some();
            // The small rings do fit into the last 16 bytes.
            assert!(
                refused || address == outside && state.available_ring == outside,
                "{state:x?}"
            );
        }
    }
    assert!(make(&QueueState::default()).is_none());
}

#[test]
fn a_queue_is_made_again_from_its_state() {
    let Setup {
        guest,
        mut driver,
        mut queue,
        interrupt,
    } = setup(8, false);
    driver.add(&[Part::Write(1)]);
    driver.add(&[Part::Write(2)]);
    let head = queue.pop().unwrap().head;
    queue.add_used(head, 1);
    let state = queue.state();
    let json = serde_json::to_string(&state).unwrap();
    let state: QueueState = serde_json::from_str(&json).unwrap();
    let notify = EventFd::new(EFD_NONBLOCK).unwrap();
    let mut queue = Queue::new(0, 8, &state, false, guest.memory(), interrupt, notify).unwrap();
    let chain = queue.pop().unwrap();
    assert_eq!(chain.writable.len(), 2);
    queue.add_used(chain.head, 2);
    assert_eq!(driver.poll().unwrap().1, 1);
    assert_eq!(driver.poll().unwrap().1, 2);
}

proptest! {
    /// Rings full of noise: no panic, no endless loop, no chain longer than allowed.
    #[test]
    fn noise_in_the_rings_is_survived(noise in proptest::collection::vec(any::<u8>(), 256), rounds in 1..20usize) {
        let Setup { guest, driver, mut queue, .. } = setup(8, rounds % 2 == 0);
        guest.write(driver.state.descriptor_table, &noise[..128]);
        guest.write(driver.state.available_ring, &noise[128..150]);
        guest.write(driver.state.used_ring, &noise[150..]);
        for _ in 0..rounds {
            let Some(mut chain) = queue.pop() else { break };
            prop_assert!(chain.readable.segments().len() + chain.writable.segments().len() <= MAX_CHAIN_LEN);
            let ram = guest.memory().memory();
            let _ = chain.readable.read(&ram, &mut [0; 64]);
            let _ = chain.writable.iovecs(&ram, 4096);
            queue.add_used(chain.head, 0);
            queue.signal();
        }
        queue.enable_notification();
    }
}
