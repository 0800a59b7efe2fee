use super::*;
use crate::testing::{DriverQueue, Guest, Part as RequestPart, TestInterrupt};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use vm_memory::Bytes;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK};

pub(super) const EVENT_IDX: u64 = 1 << VIRTIO_RING_F_EVENT_IDX;
pub(super) const PACKED: u64 = 1 << VIRTIO_F_RING_PACKED;

/// Both forms of queues with both ways to suppress notifications.
pub(super) const FORMS: [u64; 4] = [0, EVENT_IDX, PACKED, PACKED | EVENT_IDX];

pub(super) struct Setup {
    pub(super) guest: Guest,
    pub(super) driver: DriverQueue,
    pub(super) queue: Queue,
    pub(super) interrupt: Arc<TestInterrupt>,
}

pub(super) fn notify() -> EventFd {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap()
}

pub(super) fn setup(size: u16, features: u64) -> Setup {
    let (guest, notify) = (Guest::new(), notify());
    let driver = DriverQueue::with_features(&guest, size, features, notify.try_clone().unwrap());
    let interrupt = Arc::<TestInterrupt>::default();
    let memory = guest.memory();
    let queue = Queue::new(
        0,
        size,
        &driver.state,
        features,
        memory,
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

/// The queue must have been given up: nothing moves any more, and the driver has been told once.
pub(super) fn assert_broken(setup: &mut Setup, case: &str) {
    assert!(setup.queue.pop().is_none(), "{case}");
    assert!(!setup.queue.is_ready(), "{case}");
    assert!(setup.interrupt.asked_for_reset(), "{case}");
    let interrupts = setup.interrupt.count();
    setup.queue.add_used(0, 0);
    setup.queue.signal();
    assert!(setup.queue.pop().is_none(), "{case}");
    assert_eq!(setup.interrupt.count(), interrupts, "{case}");
}

fn write(len: u32) -> RequestPart {
    RequestPart::Write(len)
}

#[test]
fn chains_arrive_in_order_with_their_parts() {
    for (features, indirect) in FORMS.into_iter().flat_map(|form| [(form, false), (form, true)]) {
        let Setup {
            guest,
            mut driver,
            mut queue,
            ..
        } = setup(8, features);
        driver.set_indirect(indirect);
        driver.add(&[
            RequestPart::Read(vec![1, 2, 3]),
            RequestPart::Read(vec![4]),
            write(10),
        ]);
        driver.add(&[write(7)]);
        let mut chain = queue.pop().unwrap();
        let mut bytes = [0; 4];
        chain.readable.read(&guest.memory().memory(), &mut bytes).unwrap();
        assert_eq!((bytes, chain.writable.len()), ([1, 2, 3, 4], 10));
        assert_eq!(queue.pop().unwrap().writable.len(), 7);
        assert!(queue.pop().is_none());
        assert!(queue.is_ready());
    }
}

#[test]
fn chains_go_back_in_any_order() {
    for features in FORMS {
        let Setup {
            mut driver,
            mut queue,
            ..
        } = setup(8, features);
        for _ in 0..5 {
            let ids: Vec<u16> = (1..4).map(|len| driver.add(&[write(len), write(1)])).collect();
            let heads: Vec<u16> = (0..3).map(|_| queue.pop().unwrap().head).collect();
            for index in [1, 2, 0] {
                queue.add_used(heads[index], index as u32);
            }
            for index in [1, 2, 0] {
                let (id, len, _) = driver.poll().unwrap();
                assert_eq!((id, len), (ids[index], index as u32));
            }
        }
    }
}

#[test]
fn a_chain_that_is_put_back_comes_again() {
    for features in FORMS {
        let Setup {
            mut driver,
            mut queue,
            ..
        } = setup(8, features);
        // Often enough to pass the end of the ring in between.
        for _ in 0..7 {
            driver.add(&[write(7), write(1)]);
            driver.add(&[write(8), write(1), write(1)]);
            let (first, second) = (queue.pop().unwrap(), queue.pop().unwrap());
            queue.undo_pop(second.head);
            queue.undo_pop(first.head);
            for len in [8, 10] {
                let chain = queue.pop().unwrap();
                assert_eq!(chain.writable.len(), len);
                queue.add_used(chain.head, 0);
                driver.poll().unwrap();
            }
        }
    }
}

#[test]
fn chains_that_belong_together_are_seen_together() {
    for features in FORMS {
        let Setup {
            mut driver,
            mut queue,
            ..
        } = setup(8, features);
        for _ in 0..5 {
            for _ in 0..3 {
                driver.add(&[write(1), write(1)]);
            }
            let heads: Vec<u16> = (0..3).map(|_| queue.pop().unwrap().head).collect();
            assert_eq!(driver.poll(), None);
            queue.add_used_together(&[(heads[0], 3), (heads[1], 2), (heads[2], 1)]);
            for len in [3, 2, 1] {
                assert_eq!(driver.poll().unwrap().1, len);
            }
        }
        queue.add_used_together(&[]);
        assert_eq!(driver.poll(), None);
    }
}

#[test]
fn the_driver_is_interrupted_only_when_it_wants() {
    for features in [0, PACKED] {
        let Setup {
            mut driver,
            mut queue,
            interrupt,
            ..
        } = setup(8, features);
        let mut serve = |driver: &mut DriverQueue| {
            driver.add(&[write(1)]);
            let head = queue.pop().unwrap().head;
            queue.add_used(head, 1);
            queue.signal();
            queue.signal();
        };
        serve(&mut driver);
        assert_eq!(interrupt.count(), 1);
        driver.want_interrupts(false);
        serve(&mut driver);
        assert_eq!(interrupt.count(), 1);
        driver.want_interrupts(true);
        serve(&mut driver);
        assert_eq!(interrupt.count(), 2);
    }
}

#[test]
fn with_event_index_one_interrupt_covers_many_buffers() {
    for features in [EVENT_IDX, PACKED | EVENT_IDX] {
        let Setup {
            mut driver,
            mut queue,
            interrupt,
            ..
        } = setup(8, features);
        for round in 1..6 {
            driver.want_interrupt();
            for _ in 0..3 {
                driver.add(&[write(1), write(1)]);
                let head = queue.pop().unwrap().head;
                queue.add_used(head, 1);
                queue.signal();
            }
            assert_eq!(interrupt.count(), round);
            while driver.poll().is_some() {}
        }
    }
}

#[test]
fn notifications_that_come_between_two_looks_are_not_missed() {
    for features in FORMS {
        let Setup {
            mut driver,
            mut queue,
            ..
        } = setup(8, features);
        for _ in 0..9 {
            queue.disable_notification();
            assert!(!queue.enable_notification());
            queue.disable_notification();
            driver.add(&[write(1)]);
            driver.device_wants_notification();
            assert!(queue.enable_notification());
            let head = queue.pop().unwrap().head;
            queue.add_used(head, 0);
            driver.poll().unwrap();
            assert!(!queue.enable_notification());
            driver.add(&[write(1), write(1)]);
            assert!(driver.device_wants_notification());
            let head = queue.pop().unwrap().head;
            queue.add_used(head, 0);
            driver.poll().unwrap();
        }
    }
}

#[test]
fn impossible_queues_are_refused_with_the_reason() {
    for features in FORMS {
        let Setup {
            guest,
            driver,
            interrupt,
            ..
        } = setup(8, features);
        let make = |state: &QueueState| {
            Queue::new(3, 8, state, features, guest.memory(), interrupt.clone(), notify()).err()
        };
        for size in [0, 3, 16] {
            let state = QueueState {
                size,
                ..driver.state.clone()
            };
            let refused = matches!(make(&state), Some(QueueError::Size { index: 3, .. }));
            assert!(refused || features & PACKED != 0 && size == 3);
        }
        let outside = crate::testing::MEMORY_SIZE - 16;
        for address in [0, 7, outside, u64::MAX - 15] {
            let good = driver.state.clone();
            let (mut table, mut available, mut used) = (good.clone(), good.clone(), good);
            table.descriptor_table = address;
            available.available_ring = address;
            used.used_ring = address;
            for state in [table, available, used] {
                let refused = make(&state).is_some();
                // The small parts do fit into the last 16 bytes.
                assert!(
                    refused || address == outside && state.descriptor_table != outside,
                    "{state:x?}"
                );
            }
        }
        assert!(make(&QueueState::default()).is_none());
    }
}

#[test]
fn a_driver_cannot_make_the_device_hold_more_chains_than_there_are_entries() {
    for features in FORMS {
        let mut setup = setup(8, features);
        // In a split ring the same chain again and again, in a packed one by a counter turned back and forth.
        for round in 0..2 {
            for index in 0..8 {
                match features & PACKED {
                    0 => {
                        setup.driver.publish(0);
                    }
                    _ => {
                        let flags: u16 = if round == 0 { 1 << 7 } else { 1 << 15 };
                        let place = setup.driver.state.descriptor_table + 16 * index;
                        setup.guest.write(place, &[0; 14]);
                        setup.guest.write(place + 14, &flags.to_le_bytes());
                    }
                }
                let popped = setup.queue.pop().is_some();
                assert_eq!(popped, round == 0, "{features:#x} {index}");
                if !popped {
                    break;
                }
            }
        }
        assert_broken(&mut setup, "too many");
    }
}

#[test]
fn states_of_old_snapshots_are_understood_and_others_refused() {
    let old = r#"{"size":8,"ready":true,"descriptor_table":4096,"available_ring":8192,"used_ring":12288,
        "next_available":3,"next_used":2}"#;
    let state: QueueState = serde_json::from_str(old).unwrap();
    assert_eq!((state.next_available, state.available_wrapped), (3, false));
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(old).unwrap(),
        serde_json::json!(state)
    );
    assert!(serde_json::from_str::<QueueState>(&old.replace("next_used", "next")).is_err());
}

proptest! {
    /// Rings full of noise: no panic, no endless loop, no chain longer than allowed.
    #[test]
    fn noise_in_the_rings_is_survived(
        form in 0..FORMS.len(),
        noise in proptest::collection::vec(any::<u8>(), 256),
        rounds in 1..40usize,
        keep: bool,
    ) {
        let Setup { guest, driver, mut queue, .. } = setup(8, FORMS[form]);
        let state = &driver.state;
        let (available, used) = if FORMS[form] & PACKED == 0 { (22, 70) } else { (4, 4) };
        guest.write(state.descriptor_table, &noise[..128]);
        guest.write(state.available_ring, &noise[128..128 + available]);
        guest.write(state.used_ring, &noise[160..160 + used]);
        for _ in 0..rounds {
            let Some(mut chain) = queue.pop() else { break };
            prop_assert!(chain.readable.segments().len() + chain.writable.segments().len() <= MAX_CHAIN_LEN);
            let ram = guest.memory().memory();
            let _ = chain.readable.read(&ram, &mut [0; 64]);
            let _ = chain.writable.iovecs(&ram, 4096);
            if !keep {
                queue.add_used(chain.head, 0);
                queue.signal();
            }
        }
        queue.enable_notification();
    }
}

#[test]
fn descriptors_that_change_while_they_are_read_are_survived() {
    for features in FORMS {
        let Setup {
            guest,
            driver,
            queue,
            interrupt,
        } = setup(8, features);
        drop(queue);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let ram = guest.memory().memory();
                let mut noise = 1u64;
                while !stop.load(Ordering::Relaxed) {
                    // Xorshift.
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    let table = driver.state.descriptor_table + 8 * (noise % 16);
                    let value = (noise >> 8) & 0x8087_0007_0000_ffff;
                    ram.write_obj(value, GuestAddress(table)).unwrap();
                    ram.write_obj(
                        (noise >> 32) as u16,
                        GuestAddress(driver.state.available_ring + 2),
                    )
                    .unwrap();
                }
            });
            for _ in 0..500 {
                let memory = guest.memory();
                let state = &driver.state;
                let mut queue =
                    Queue::new(0, 8, state, features, memory, interrupt.clone(), notify()).unwrap();
                for _ in 0..16 {
                    let Some(chain) = queue.pop() else { break };
                    let segments = chain.readable.segments().len() + chain.writable.segments().len();
                    assert!(segments <= MAX_CHAIN_LEN);
                    queue.add_used(chain.head, 1);
                    queue.signal();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
