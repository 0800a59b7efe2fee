//! A driver that sends noise to a memory device. Each 26 bytes of the input are a request, the claimed length of it and
//! the room for its answer.
#![no_main]

use devices::testing::Harness;
use devices::virtio::mem::{Config, Mem};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|input: &[u8]| {
    let config = Config {
        address: 32 << 20,
        region_bytes: 16 << 20,
        block_bytes: 2 << 20,
        node: 0,
        requested_bytes: 8 << 20,
    };
    let mut harness = Harness::new(Mem::new(config).expect("a memory device"), 0);
    for (step, index) in input.chunks_exact(26).take(64).zip(0u64..) {
        let address = 0x10_0000 + index * 0x100;
        harness.guest.write(address, &step[..24]);
        let (len, room) = (u32::from(step[24] & 31), u32::from(step[25] & 15));
        harness.queues[0].add_raw(&[(address, len, false), (address + 0x80, room, true)]);
        harness.queues[0].kick();
    }
    std::thread::sleep(Duration::from_micros(200));
    harness.device.pause().expect("the worker lives");
    let plugged = harness.device.metrics()["plugged_bytes"].as_u64();
    assert!(plugged <= Some(8 << 20), "more is plugged than was requested");
});
