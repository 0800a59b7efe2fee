//! A driver that sends control messages of noise to a console with three ports, and gives it odd buffers, while clients
//! come, write and go.
//!
//! Each step of the input chooses a queue or a client, then says how its bytes are scattered.
#![no_main]

use devices::testing::{Harness, Part};
use devices::virtio::console::{Console, HostEnd, PortConfig};
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// Bytes of a step.
const STEP: usize = 12;

fuzz_target!(|input: &[u8]| {
    let Some((features, steps)) = input.split_first() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let sockets = ["agent", "second"].map(|name| folder.path().join(name));
    let (_terminal, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut ports = vec![(PortConfig::default(), HostEnd::Stream(theirs))];
    for (socket, terminal) in sockets.iter().zip([false, true]) {
        let listener = UnixListener::bind(socket).expect("a socket");
        let config = PortConfig {
            name: socket.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            terminal,
            ..PortConfig::default()
        };
        ports.push((config, HostEnd::Listener(listener)));
    }
    // Of the size and of several ports.
    let features = u64::from(features & 3);
    let mut harness = Harness::new(Console::new(ports).expect("a console"), features);
    let mut clients = [None, None];
    for step in steps.chunks(STEP).take(64) {
        let [what, cut, bytes @ ..] = step else { break };
        let what = usize::from(*what) % (harness.queues.len() + 4);
        let (first, rest) = bytes.split_at(usize::from(*cut) % (bytes.len() + 1));
        match what {
            queue @ (1 | 3 | 5 | 7) => {
                harness.queues[queue].add(&[Part::Read(first.to_vec()), Part::Read(rest.to_vec())]);
            }
            queue @ (0 | 2 | 4 | 6) => {
                harness.queues[queue].add(&[Part::Write(u32::from(*cut)), Part::Write(64)]);
            }
            client @ (8 | 9) => {
                let client = client - 8;
                let come = || UnixStream::connect(&sockets[client]).ok();
                clients[client] = if cut & 1 == 0 { come() } else { None };
                continue;
            }
            10 => {
                for client in clients.iter_mut().flatten() {
                    let _ = client.write_all(bytes);
                }
                continue;
            }
            _ => {
                let update = serde_json::json!({"port": if cut & 1 == 0 { "second" } else { "agent" }, "columns": cut, "rows": 24});
                let _ = harness.device.update(update).wait(Duration::from_secs(10));
                continue;
            }
        }
        harness.queues[what].kick();
        for queue in &mut harness.queues {
            while queue.poll().is_some() {}
        }
    }
    std::thread::sleep(Duration::from_micros(200));
    harness.device.pause().expect("the worker lives");
    harness.device.save().expect("a state");
    harness.device.reset();
});
