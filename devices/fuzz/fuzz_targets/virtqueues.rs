//! A driver that writes anything into the rings of a queue, split or packed, while the device works on it.
#![no_main]

use devices::testing::{DriverQueue, Guest, TestInterrupt};
use devices::virtio::queue::{MAX_CHAIN_LEN, Queue, QueueState};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Entries of the queue.
const SIZE: u16 = 16;

fuzz_target!(|input: &[u8]| {
    let Some(([form, steps], noise)) = input.split_first_chunk() else { return };
    // EVENT_IDX and RING_PACKED.
    let features = u64::from(form & 1) << 29 | u64::from(form >> 1 & 1) << 34;
    let guest = Guest::new();
    let notify = || EventFd::new(EFD_NONBLOCK).expect("an event descriptor");
    let driver = DriverQueue::with_features(&guest, SIZE, features, notify());
    let make = |state: &QueueState| {
        let interrupt = Arc::<TestInterrupt>::default();
        Queue::new(0, SIZE, state, features, guest.memory(), interrupt, notify())
    };
    let mut queue = make(&driver.state).expect("a queue");
    let mut popped = Vec::new();
    for step in noise.chunks(6).take(usize::from(*steps)) {
        let [kind, place, bytes @ ..] = step else { break };
        let place = u64::from(*place);
        match kind % 10 {
            // Mostly where it hurts: all three parts are small.
            0..4 => {
                let state = &driver.state;
                let base = [state.descriptor_table, state.available_ring, state.used_ring, state.descriptor_table];
                guest.write(base[usize::from(kind % 10)] + place, bytes);
            }
            4 | 5 => {
                let Some(mut chain) = queue.pop() else { continue };
                assert!(chain.readable.segments().len() + chain.writable.segments().len() <= MAX_CHAIN_LEN);
                let ram = guest.memory().memory();
                let _ = chain.readable.read(&ram, &mut [0; 16]);
                let _ = chain.writable.write(&ram, &[0; 16]);
                popped.push(chain.head);
                assert!(popped.len() <= usize::from(SIZE), "the device holds more chains than there are entries");
            }
            6 => {
                if let Some(head) = popped.pop() {
                    queue.undo_pop(head);
                }
            }
            7 => {
                if !popped.is_empty() {
                    let head = popped.swap_remove(place as usize % popped.len());
                    queue.add_used(head, 1);
                    queue.signal();
                }
            }
            8 => {
                queue.disable_notification();
                queue.enable_notification();
            }
            _ => {
                let used: Vec<_> = popped.drain(..).map(|head| (head, 1)).collect();
                queue.add_used_together(&used);
                let state = queue.state();
                queue = make(&state).expect("a queue goes on where it stood");
            }
        }
    }
});
