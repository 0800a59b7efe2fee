use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use crate::virtio::device::VirtioDevice;
use crate::virtio::worker::Virtio;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const MULTIPORT: u64 = 1 << FEATURE_MULTIPORT;
/// A control message: port, event, value, and what follows.
type Message = (u32, u16, u16, Vec<u8>);

fn single() -> (Harness, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let console = Console::new([(PortConfig::default(), HostEnd::Stream(theirs))]).unwrap();
    (Harness::new(console, 1), ours)
}

/// A driver of a terminal and a channel called `agent`, which clients reach at a socket.
struct Driver {
    harness: Harness,
    terminal: UnixStream,
    folder: tempfile::TempDir,
}

/// The second port's queues.
const AGENT_RECEIVE: usize = 4;
const AGENT_TRANSMIT: usize = 5;

impl Driver {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (terminal, theirs) = UnixStream::pair().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let agent = PortConfig {
            name: "agent".to_owned(),
            ..PortConfig::default()
        };
        let ports = [
            (PortConfig::default(), HostEnd::Stream(theirs)),
            (agent, HostEnd::Listener(listener)),
        ];
        let mut driver = Self {
            harness: Harness::new(Console::new(ports).unwrap(), 1 | MULTIPORT),
            terminal,
            folder,
        };
        for _ in 0..16 {
            driver.harness.queues[CONTROL_RECEIVE].add(&[Part::Write(128)]);
        }
        driver.harness.queues[CONTROL_RECEIVE].kick();
        driver
    }

    /// One that has made all ports and has the agent's open.
    fn with_open_ports() -> Self {
        let mut driver = Self::new();
        driver.tell(0, 0, 1);
        driver.hear();
        driver.hear();
        for (port, news) in [(0, 3), (1, 1)] {
            driver.tell(port, 3, 1);
            (0..news).for_each(|_| drop(driver.hear()));
            driver.tell(port, 6, 1);
        }
        driver
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn tell(&mut self, port: u32, event: u16, value: u16) {
        let mut bytes = port.to_le_bytes().to_vec();
        bytes.extend([event, value].map(u16::to_le_bytes).as_flattened());
        self.harness.request(CONTROL_TRANSMIT, &[Part::Read(bytes)]);
    }

    fn hear(&mut self) -> Message {
        let (_, len, bytes) = self
            .harness
            .next_used(CONTROL_RECEIVE)
            .expect("a message in time");
        self.harness.queues[CONTROL_RECEIVE].add(&[Part::Write(128)]);
        self.harness.queues[CONTROL_RECEIVE].kick();
        let number = |range: std::ops::Range<usize>| {
            bytes[range]
                .iter()
                .rev()
                .fold(0u32, |sum, byte| sum << 8 | u32::from(*byte))
        };
        let (event, value) = (number(4..6) as u16, number(6..8) as u16);
        (number(0..4), event, value, bytes[8..len as usize].to_vec())
    }

    fn update(&mut self, update: serde_json::Value) -> UpdateResult {
        self.harness.device.update(update).wait(PATIENCE)
    }

    fn hears_nothing(&mut self) -> bool {
        std::thread::sleep(Duration::from_millis(50));
        self.harness.queues[CONTROL_RECEIVE].poll().is_none()
    }
}

#[test]
fn bytes_go_both_ways() {
    let (mut harness, mut terminal) = single();
    harness.request(TRANSMIT, &[Part::Read(b"login: ".to_vec())]);
    let mut bytes = [0; 7];
    terminal.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"login: ");
    terminal.write_all(b"root\n").unwrap();
    let (len, input) = harness.request(RECEIVE, &[Part::Write(64)]);
    assert_eq!((len, &input[..5]), (5, &b"root\n"[..]));
}

#[test]
fn a_reader_that_stops_holds_output_back_until_it_goes_on_and_misses_nothing() {
    let (mut harness, mut terminal) = single();
    terminal.set_nonblocking(true).unwrap();
    let (mut sent, mut taken) = (0, 0);
    while harness.queues[TRANSMIT].in_flight() < 32 {
        harness.queues[TRANSMIT].add(&[Part::Read(vec![sent as u8; 15 * 1024 + 7])]);
        harness.queues[TRANSMIT].kick();
        sent += 1;
        std::thread::sleep(Duration::from_millis(1));
        while harness.queues[TRANSMIT].poll().is_some() {
            taken += 1;
        }
        assert!(sent < 1000, "output without end is taken");
    }
    let expected: Vec<u8> = (0..sent).flat_map(|n| vec![n as u8; 15 * 1024 + 7]).collect();
    let (mut read, mut part) = (Vec::new(), vec![0; 1 << 20]);
    let complete = harness.interrupt.wait(|| {
        if let Ok(len) = terminal.read(&mut part) {
            read.extend_from_slice(&part[..len]);
        }
        while harness.queues[TRANSMIT].poll().is_some() {
            taken += 1;
        }
        taken == sent && read.len() >= expected.len()
    });
    assert!(complete, "{taken} of {sent} buffers, {} bytes", read.len());
    assert!(read == expected, "the bytes are others than those sent");
    assert_eq!(harness.device.metrics()["bytes_lost"], 0);
}

#[test]
fn a_new_size_is_told_to_the_driver() {
    let (mut harness, _terminal) = single();
    let size = |harness: &Harness| {
        let mut bytes = [0; 4];
        harness.device.config().read(0, &mut bytes);
        let [c0, c1, r0, r1] = bytes;
        (u16::from_le_bytes([c0, c1]), u16::from_le_bytes([r0, r1]))
    };
    assert_eq!(size(&harness), (80, 24));
    let generation = harness.device.config().generation();
    let updated = harness.device.update(json!({"columns": 132, "rows": 50}));
    updated.wait(PATIENCE).unwrap();
    assert_eq!(harness.interrupt.config_changes(), 2, "at the start and now");
    assert_eq!(size(&harness), (132, 50));
    assert_ne!(harness.device.config().generation(), generation);
}

#[test]
fn sizes_that_cannot_be_are_refused_and_change_nothing() {
    let mut driver = Driver::new();
    for (update, reason) in [
        (json!({"columns": 0, "rows": 24}), "not 0 by 24"),
        (json!({"columns": 70000, "rows": 24}), "70000"),
        (json!({"columns": 80}), "rows"),
        (
            json!({"port": "agnet", "columns": 80, "rows": 24}),
            "there is no terminal \"agnet\"",
        ),
        (
            json!({"port": "agent", "columns": 80, "rows": 24}),
            "there is no terminal \"agent\"",
        ),
    ] {
        let refusal = driver.update(update);
        let text = refusal.unwrap_err().to_string();
        assert!(text.contains(reason), "{text}");
    }
    assert_eq!(driver.harness.interrupt.config_changes(), 0);
}

#[test]
fn the_end_of_the_input_costs_nothing_but_the_input() {
    let (mut harness, terminal) = single();
    terminal.shutdown(std::net::Shutdown::Write).unwrap();
    harness.queues[RECEIVE].add(&[Part::Write(64)]);
    harness.queues[RECEIVE].kick();
    harness.request(TRANSMIT, &[Part::Read(b"still".to_vec())]);
    assert_eq!(harness.queues[RECEIVE].in_flight(), 1);
    drop(terminal);
    harness.request(TRANSMIT, &[Part::Read(b"lost".to_vec())]);
    assert_eq!(harness.device.metrics()["bytes_lost"], 4);
}

#[test]
fn a_buffer_without_room_for_input_is_not_the_end_of_it() {
    let (mut harness, mut terminal) = single();
    terminal.write_all(b"x").unwrap();
    assert_eq!(harness.request(RECEIVE, &[Part::Write(0)]).0, 0);
    assert_eq!(harness.request(RECEIVE, &[Part::Write(8)]).0, 1);
}

#[test]
fn the_driver_learns_of_all_ports() {
    let mut driver = Driver::new();
    let mut number = [0; 4];
    driver.harness.device.config().read(4, &mut number);
    assert_eq!(u32::from_le_bytes(number), 2);
    driver.tell(0, 0, 1);
    assert_eq!(driver.hear(), (0, 1, 0, vec![]));
    assert_eq!(driver.hear(), (1, 1, 0, vec![]));
    driver.tell(0, 3, 1);
    assert_eq!(driver.hear(), (0, 4, 1, vec![]));
    assert_eq!(driver.hear(), (0, 5, 0, vec![80, 0, 24, 0]));
    assert_eq!(driver.hear(), (0, 6, 1, vec![]));
    driver.tell(1, 3, 1);
    assert_eq!(driver.hear(), (1, 7, 1, b"agent".to_vec()));
    assert!(driver.hears_nothing());
    let update = json!({"columns": 132, "rows": 50});
    driver.update(update).unwrap();
    assert_eq!(driver.hear(), (0, 5, 0, vec![132, 0, 50, 0]));
}

#[test]
fn a_client_talks_to_the_guest_through_its_port() {
    let mut driver = Driver::with_open_ports();
    let mut client = driver.connect();
    assert_eq!(driver.hear(), (1, 6, 1, vec![]));
    client.write_all(b"{\"ping\":1}").unwrap();
    let (len, bytes) = driver.harness.request(AGENT_RECEIVE, &[Part::Write(64)]);
    assert_eq!(&bytes[..len as usize], b"{\"ping\":1}");
    driver
        .harness
        .request(AGENT_TRANSMIT, &[Part::Read(b"pong".to_vec())]);
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"pong");
    // The terminal has its own bytes.
    driver
        .harness
        .request(TRANSMIT, &[Part::Read(b"login: ".to_vec())]);
    let mut prompt = [0; 7];
    driver.terminal.read_exact(&mut prompt).unwrap();
    assert_eq!(&prompt, b"login: ");
}

#[test]
fn what_a_client_sent_before_it_left_arrives_and_the_next_one_is_another() {
    let mut driver = Driver::with_open_ports();
    let mut first = driver.connect();
    assert_eq!(driver.hear(), (1, 6, 1, vec![]));
    first.write_all(b"last words").unwrap();
    drop(first);
    let mut second = driver.connect();
    assert!(driver.hears_nothing(), "told of the end before its words");
    let (len, bytes) = driver.harness.request(AGENT_RECEIVE, &[Part::Write(64)]);
    assert_eq!(&bytes[..len as usize], b"last words");
    driver.harness.queues[AGENT_RECEIVE].add(&[Part::Write(64)]);
    driver.harness.queues[AGENT_RECEIVE].kick();
    assert_eq!(driver.hear(), (1, 6, 0, vec![]));
    assert_eq!(driver.hear(), (1, 6, 1, vec![]));
    second.write_all(b"hello").unwrap();
    let (_, len, bytes) = driver.harness.next_used(AGENT_RECEIVE).unwrap();
    assert_eq!(&bytes[..len as usize], b"hello");
    assert_eq!(driver.harness.device.metrics()["clients"], 2);
}

#[test]
fn a_client_that_only_half_left_still_gets_its_answer() {
    let mut driver = Driver::with_open_ports();
    let mut client = driver.connect();
    driver.hear();
    client.write_all(b"question").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    driver.harness.request(AGENT_RECEIVE, &[Part::Write(64)]);
    assert!(driver.hears_nothing());
    driver
        .harness
        .request(AGENT_TRANSMIT, &[Part::Read(b"answer".to_vec())]);
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
}

#[test]
fn input_waits_until_a_program_of_the_guest_opens_the_port() {
    let mut driver = Driver::with_open_ports();
    driver.tell(1, 6, 0);
    let mut client = driver.connect();
    driver.hear();
    client.write_all(b"early").unwrap();
    driver.harness.queues[AGENT_RECEIVE].add(&[Part::Write(64)]);
    driver.harness.queues[AGENT_RECEIVE].kick();
    assert!(driver.hears_nothing());
    assert_eq!(driver.harness.queues[AGENT_RECEIVE].in_flight(), 1);
    driver.tell(1, 6, 1);
    let (_, len, bytes) = driver.harness.next_used(AGENT_RECEIVE).unwrap();
    assert_eq!(&bytes[..len as usize], b"early");
}

#[test]
fn what_the_guest_says_to_nobody_is_lost_and_holds_nothing_up() {
    let mut driver = Driver::with_open_ports();
    for _ in 0..200 {
        driver
            .harness
            .request(AGENT_TRANSMIT, &[Part::Read(vec![b'x'; 100])]);
    }
    assert_eq!(driver.harness.device.metrics()["bytes_lost"], 20_000);
}

#[test]
fn a_driver_that_knows_one_port_has_a_terminal() {
    let driver = Driver::new();
    let Driver {
        mut harness,
        mut terminal,
        folder,
    } = driver;
    harness.device.reset();
    harness.activate_some(1, |queue| queue < 2);
    harness.request(TRANSMIT, &[Part::Read(b"old".to_vec())]);
    let mut bytes = [0; 3];
    terminal.read_exact(&mut bytes).unwrap();
    terminal.write_all(b"in").unwrap();
    assert_eq!(harness.request(RECEIVE, &[Part::Write(8)]).0, 2);
    drop(folder);
}

#[test]
fn a_device_that_is_paused_goes_on_with_its_client() {
    let mut driver = Driver::with_open_ports();
    let mut client = driver.connect();
    driver.hear();
    driver.harness.device.pause().unwrap();
    client.write_all(b"meanwhile").unwrap();
    driver.harness.device.resume().unwrap();
    let (len, bytes) = driver.harness.request(AGENT_RECEIVE, &[Part::Write(64)]);
    assert_eq!(&bytes[..len as usize], b"meanwhile");
}

#[test]
fn the_last_sizes_and_what_the_driver_knows_are_saved() {
    let mut driver = Driver::with_open_ports();
    let client = driver.connect();
    driver.hear();
    let update = json!({"columns": 100, "rows": 40});
    driver.update(update).unwrap();
    driver.hear();
    driver.harness.device.pause().unwrap();
    let state: State = serde_json::from_value(driver.harness.device.save().unwrap()).unwrap();
    let first = &state.ports[0].0;
    assert_eq!((first.size.columns, first.size.rows), (100, 40));
    drop(client);

    // The device that is made of it goes on where the other was, without the client.
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    let ends = [HostEnd::Stream(theirs), HostEnd::Listener(listener)];
    let device = Virtio::new(Console::restore(state.clone(), ends).unwrap());
    let again: State = serde_json::from_value(device.save().unwrap()).unwrap();
    assert_eq!(again, state);
    driver.harness = Harness::with_device(Box::new(device), 1 | MULTIPORT);
    driver.harness.queues[CONTROL_RECEIVE].add(&[Part::Write(128)]);
    driver.harness.queues[CONTROL_RECEIVE].kick();
    assert_eq!(driver.hear(), (1, 6, 0, vec![]));
}

#[test]
fn messages_about_ports_that_are_not_there_are_nothing() {
    let mut driver = Driver::with_open_ports();
    for port in [2, 16, u32::MAX] {
        for event in 0..9 {
            if event != 0 {
                driver.tell(port, event, 1);
            }
        }
    }
    driver
        .harness
        .request(CONTROL_TRANSMIT, &[Part::Read(vec![1; 7])]);
    assert!(driver.hears_nothing());
    assert!(!driver.harness.interrupt.asked_for_reset());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_the_driver_tells_the_console_goes_on(
        messages in vec((0u32..4, 0u16..9, 0u16..3, vec(any::<u8>(), 0..4)), 0..40),
    ) {
        let mut driver = Driver::new();
        for (port, event, value, rest) in messages {
            let mut bytes = port.to_le_bytes().to_vec();
            bytes.extend([event, value].map(u16::to_le_bytes).as_flattened());
            bytes.truncate(8 - rest.len() % 4);
            driver.harness.request(CONTROL_TRANSMIT, &[Part::Read(bytes), Part::Read(rest)]);
        }
        prop_assert!(!driver.harness.interrupt.asked_for_reset());
        // A driver that starts anew is told the same as the first one.
        driver.harness.device.reset();
        driver.harness.activate(1 | MULTIPORT);
        for _ in 0..2 {
            driver.harness.queues[CONTROL_RECEIVE].add(&[Part::Write(128)]);
        }
        driver.harness.queues[CONTROL_RECEIVE].kick();
        driver.tell(0, 0, 1);
        prop_assert_eq!(driver.hear(), (0, 1, 0, vec![]));
        prop_assert_eq!(driver.hear(), (1, 1, 0, vec![]));
    }
}
