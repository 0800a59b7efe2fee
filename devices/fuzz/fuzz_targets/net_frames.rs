//! A driver that sends frames and commands of noise to a card with two pairs of queues, and gives it odd receive buffers.
//!
//! Each step of the input chooses a queue, then says how its bytes are scattered.
#![no_main]

use devices::testing::{Harness, Part};
use devices::virtio::net::{Config, Net, NetLimits, Tap};
use libfuzzer_sys::fuzz_target;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Bytes of a step.
const STEP: usize = 40;

fuzz_target!(|input: &[u8]| {
    let Some((features, steps)) = input.split_first_chunk::<8>() else { return };
    // Event index and packed rings would have the driver's side behave in other ways.
    let features = u64::from_le_bytes(*features) & !(1 << 29 | 1 << 34);
    let (mut wires, mut taps) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (ours, theirs) = UnixDatagram::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("a socket that does not block");
        wires.push(ours);
        taps.push(Tap::from_packet_socket(theirs.into()).expect("a wire"));
    }
    let config = Config {
        mac: "10:66:6a:01:02:03".parse().expect("an address"),
        mtu: 1500,
        limits: NetLimits::default(),
    };
    let mut harness = Harness::new(Net::new(config, taps).expect("a card"), features);
    for step in steps.chunks(STEP).take(64) {
        let [queue, cut, bytes @ ..] = step else { break };
        let queue = usize::from(*queue) % (harness.queues.len() + 2);
        match queue {
            0 | 2 => {
                harness.queues[queue].add(&[Part::Write(u32::from(*cut)), Part::Write(2048)]);
                // The wire's frames are noise, too.
                let _ = wires[queue / 2].send(bytes);
            }
            1 | 3 | 4 => {
                let (first, rest) = bytes.split_at(usize::from(*cut) % (bytes.len() + 1));
                harness.queues[queue].add(&[
                    Part::Read(first.to_vec()),
                    Part::Read(rest.to_vec()),
                    Part::Write(1),
                ]);
            }
            _ => {
                let update = serde_json::json!({"link_up": cut & 1 == 0, "announce": cut & 2 == 0});
                let _ = harness.device.update(update).wait(Duration::from_secs(10));
                continue;
            }
        }
        harness.queues[queue].kick();
        for queue in &mut harness.queues {
            while queue.poll().is_some() {}
        }
    }
    std::thread::sleep(Duration::from_micros(200));
    harness.device.pause().expect("the workers live");
    harness.device.save().expect("a state");
    harness.device.reset();
});
