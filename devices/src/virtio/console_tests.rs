use super::*;
use crate::testing::{Harness, Part};
use crate::virtio::worker::Virtio;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const TRANSMIT: usize = 1;

fn console() -> (Harness, UnixStream, Resizer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let input = OwnedFd::from(theirs.try_clone().unwrap());
    let console = Console::new(Config::default(), Some(input), theirs.into()).unwrap();
    let resizer = console.resizer();
    (Harness::new(console, 1), ours, resizer)
}

#[test]
fn bytes_go_both_ways() {
    let (mut harness, mut terminal, _) = console();
    harness.request(TRANSMIT, &[Part::Read(b"login: ".to_vec())]);
    let mut bytes = [0; 7];
    terminal.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"login: ");
    terminal.write_all(b"root\n").unwrap();
    let (len, input) = harness.request(RECEIVE, &[Part::Write(64)]);
    assert_eq!((len, &input[..5]), (5, &b"root\n"[..]));
}

#[test]
fn a_reader_that_stops_holds_output_back_until_it_goes_on() {
    let (mut harness, mut terminal, _) = console();
    terminal.set_nonblocking(true).unwrap();
    let (mut sent, mut taken) = (0, 0);
    while harness.queues[TRANSMIT].in_flight() < 32 {
        harness.queues[TRANSMIT].add(&[Part::Read(vec![b'x'; 16 * 1024])]);
        harness.queues[TRANSMIT].kick();
        sent += 1;
        std::thread::sleep(std::time::Duration::from_millis(1));
        while harness.queues[TRANSMIT].poll().is_some() {
            taken += 1;
        }
        assert!(sent < 1000, "output without end is taken");
    }
    let mut waste = vec![0; 1 << 20];
    while taken < sent {
        let _ = terminal.read(&mut waste);
        harness.interrupt.wait(|| true);
        while harness.queues[TRANSMIT].poll().is_some() {
            taken += 1;
        }
    }
}

#[test]
fn a_new_size_is_told_to_the_driver() {
    let (harness, _terminal, resizer) = console();
    let size = |harness: &Harness| {
        let mut bytes = [0; 4];
        harness.device.config().read(0, &mut bytes);
        (
            u16::from_le_bytes([bytes[0], bytes[1]]),
            u16::from_le_bytes([bytes[2], bytes[3]]),
        )
    };
    assert_eq!(size(&harness), (80, 24));
    let generation = harness.device.config().generation();
    resizer.resize(132, 50);
    assert!(harness.interrupt.wait(|| harness.interrupt.config_changes() == 1));
    assert_eq!(size(&harness), (132, 50));
    assert_ne!(harness.device.config().generation(), generation);
}

#[test]
fn the_end_of_the_input_costs_nothing_but_the_input() {
    let (mut harness, terminal, _) = console();
    terminal.shutdown(std::net::Shutdown::Write).unwrap();
    harness.queues[RECEIVE].add(&[Part::Write(64)]);
    harness.queues[RECEIVE].kick();
    harness.request(TRANSMIT, &[Part::Read(b"still".to_vec())]);
    assert_eq!(harness.queues[RECEIVE].in_flight(), 1);
    drop(terminal);
    harness.request(TRANSMIT, &[Part::Read(b"lost".to_vec())]);
    assert!(
        harness
            .interrupt
            .wait(|| harness.device.metrics()["bytes_lost"] == 4)
    );
}

#[test]
fn the_last_size_is_saved() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let console = Console::new(Config::default(), None, theirs.into()).unwrap();
    console.resizer().resize(100, 40);
    let device = Virtio::new(console);
    let state: State =
        serde_json::from_value(crate::virtio::device::VirtioDevice::save(&device).unwrap()).unwrap();
    assert_eq!(
        state.config,
        Config {
            columns: 100,
            rows: 40
        }
    );
}
