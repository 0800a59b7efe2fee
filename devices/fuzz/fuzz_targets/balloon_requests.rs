//! A driver that fills a balloon's queues with noise: page numbers, free ranges, statistics and hints.
//!
//! The input's first 512 bytes are what requests hold; the rest says which queue gets which part of it, and how long it
//! claims to be.
#![no_main]

use devices::testing::Harness;
use devices::virtio::balloon::{Balloon, Config};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let Some((noise, steps)) = input.split_at_checked(512) else { return };
    let config = Config {
        memory_bytes: 64 << 20,
        target_bytes: 0,
        deflate_on_oom: true,
        reporting: true,
        statistics_interval_s: 0,
    };
    let balloon = Balloon::new(config).expect("a balloon");
    // Statistics, hints and reports as the first byte says.
    let features = u64::from(noise[0] & 0b10_1010);
    let mut harness = Harness::new(balloon, features);
    for step in steps.chunks_exact(3).take(32) {
        let [queue, offset, len] = [step[0], step[1], step[2]];
        harness.guest.write(0x80_0000, noise);
        let queue = usize::from(queue & 0x7f) % harness.queues.len();
        let address = 0x80_0000 + u64::from(offset);
        harness.queues[queue].add_raw(&[(address, 1 << (len & 31), step[0] & 0x80 != 0)]);
        harness.queues[queue].kick();
        if len & 0x80 != 0 {
            let _ = harness.device.update(serde_json::json!({"hinting": "start"}));
        }
    }
    std::thread::sleep(Duration::from_micros(200));
    harness.device.pause().expect("the worker lives");
});
