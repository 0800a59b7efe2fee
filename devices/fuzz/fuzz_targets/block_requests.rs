//! A driver that fills rings, descriptors and request headers with noise, against a block device on a real file.
//!
//! The input's first 512 bytes lie over the queue's rings and headers; the rest says when to notify and reset.
#![no_main]

use devices::testing::Harness;
use devices::virtio::block::{Block, Config, DiskFile, EngineKind};
use devices::virtio::worker::Virtio;
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

/// Size of the disk.
const SIZE: u64 = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((noise, steps)) = input.split_at_checked(512) else { return };
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(SIZE).expect("a disk");
    let engine = if noise[0] & 1 == 0 { EngineKind::Auto } else { EngineKind::Threads };
    let config = Config { engine, ..Config::default() };
    let disk = DiskFile::raw(file.try_clone().expect("another descriptor")).expect("a disk");
    let block = Block::new(config, vec![disk]).expect("a block device");
    let mut harness = Harness::with_device(Box::new(Virtio::new(block)), 1 << 9);
    for step in steps.iter().take(16) {
        let state = harness.queues[0].state.clone();
        // Headers and data at 0x100, which descriptors of small addresses name.
        harness.guest.write(0x100, noise);
        harness.guest.write(state.descriptor_table, &noise[..256]);
        harness.guest.write(state.available_ring, &noise[256..272]);
        harness.queues[0].publish(u16::from(*step));
        harness.queues[0].kick();
        if step & 0x80 != 0 {
            harness.device.reset();
            harness.activate(1 << 9);
        }
    }
    std::thread::sleep(Duration::from_micros(200));
    harness.device.pause().expect("the worker lives");
    assert_eq!(file.metadata().expect("a size").len(), SIZE, "the guest changed the size of its disk");
});
