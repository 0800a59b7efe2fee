//! The console without a guest: the test plays the serial port.

use super::*;
use devices::interrupt::InterruptLine;

struct NoLine;

impl InterruptLine for NoLine {
    fn trigger(&self) -> io::Result<()> {
        Ok(())
    }
}

struct Fixture {
    console: Console,
    sink: Sink,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("c")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let output = Output::new().unwrap();
        let sink = Sink(output.clone());
        let serial = Serial::new(Arc::new(NoLine), Box::new(Sink(output.clone())), Box::new(|| ()));
        let log = ConsoleLog::open(&folder.path().join("log")).unwrap();
        let console = Console::new(
            output,
            Arc::new(Mutex::new(serial)),
            None,
            Some(log),
            Some(listener),
        );
        Self {
            console,
            sink,
            folder,
        }
    }

    fn attach(&mut self) -> (UnixStream, u32) {
        let stream = UnixStream::connect(self.folder.path().join("c")).unwrap();
        let number = self.console.accept().unwrap();
        (stream, number)
    }
}

#[test]
fn every_client_and_the_log_see_the_output() {
    let mut fixture = Fixture::new();
    let (mut first, _) = fixture.attach();
    let (mut second, _) = fixture.attach();
    fixture.sink.write_all(b"login: ").unwrap();
    fixture.console.pump_serial();
    for client in [&mut first, &mut second] {
        let mut bytes = [0; 7];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"login: ");
    }
    assert_eq!(
        std::fs::read(fixture.folder.path().join("log")).unwrap(),
        b"login: "
    );
}

#[test]
fn what_a_client_typed_before_it_went_reaches_the_guest() {
    let mut fixture = Fixture::new();
    let (mut client, number) = fixture.attach();
    client.write_all(b"ls\n").unwrap();
    drop(client);
    // The guest prints before anybody has looked.
    fixture.sink.write_all(b"$ ").unwrap();
    fixture.console.pump_serial();
    let room = fixture.console.serial.lock().unwrap().room();
    fixture.console.read_from(number);
    assert_eq!(fixture.console.serial.lock().unwrap().room(), room - 3);
    fixture.console.read_from(number);
    assert!(fixture.console.clients.is_empty());
}

#[test]
fn input_beyond_the_fifo_waits_until_the_guest_has_read() {
    let mut fixture = Fixture::new();
    let (mut client, number) = fixture.attach();
    client.write_all(&[b'a'; 100]).unwrap();
    fixture.console.read_from(number);
    assert_eq!(fixture.console.serial.lock().unwrap().room(), 0);
    assert_eq!(fixture.console.input.len(), 36);
    let mut events = Vec::new();
    fixture
        .console
        .sync(&mut |_, _, _, interest| events.push(interest));
    assert_eq!(events, [EventSet::IN]);
    client.write_all(&[b'b'; INPUT_BYTES]).unwrap();
    fixture.console.read_from(number);
    fixture
        .console
        .sync(&mut |_, _, _, interest| events.push(interest));
    assert_eq!(
        events,
        [EventSet::IN, EventSet::empty()],
        "no more is read until the guest has room"
    );
    fixture.console.input.clear();
    drop(client);
    fixture.console.read_from(number);
    fixture.console.read_from(number);
    assert!(
        fixture.console.clients.is_empty(),
        "a client that hung up is gone"
    );
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_others_are_not() {
    let mut fixture = Fixture::new();
    let (_idle, idle_number) = fixture.attach();
    for _ in 0..60 {
        fixture.sink.write_all(&vec![b'x'; OUTPUT_BYTES]).unwrap();
        fixture.console.pump_serial();
    }
    assert!(!fixture.console.clients.contains_key(&idle_number));
    let (mut client, _) = fixture.attach();
    fixture.sink.write_all(b"!").unwrap();
    fixture.console.pump_serial();
    let mut byte = [0];
    client.read_exact(&mut byte).unwrap();
    assert_eq!(byte, *b"!");
}

#[test]
fn a_guest_that_prints_while_nobody_drains_is_slowed_down_then_loses_output() {
    let fixture = Fixture::new();
    let mut sink = fixture.sink;
    sink.write_all(&vec![0; OUTPUT_BYTES]).unwrap();
    let start = std::time::Instant::now();
    sink.write_all(&vec![0; OUTPUT_BYTES]).unwrap();
    assert!(start.elapsed() >= OUTPUT_WAIT);
    assert!(sink.write(b"x").is_err());
}
