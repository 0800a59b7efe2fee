use super::*;
use crate::testing::TestInterrupt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes == b"!" {
            return Err(io::Error::other("nobody listens"));
        }
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn serial() -> (Serial, Sink, Arc<TestInterrupt>, Arc<AtomicU32>) {
    let (sink, line, wanted) = (
        Sink::default(),
        Arc::<TestInterrupt>::default(),
        Arc::<AtomicU32>::default(),
    );
    let counter = wanted.clone();
    let input_wanted = Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    });
    (
        Serial::new(line.clone(), Box::new(sink.clone()), input_wanted),
        sink,
        line,
        wanted,
    )
}

fn read(serial: &mut Serial, offset: u64) -> u8 {
    let mut data = [0];
    serial.read(offset, &mut data);
    data[0]
}

#[test]
fn output_reaches_the_sink_and_lost_bytes_are_counted() {
    let (mut serial, sink, _, _) = serial();
    for byte in b"Hello!" {
        serial.write(0, &[*byte]);
    }
    serial.write(0, b"wide");
    assert_eq!(*sink.0.lock().unwrap(), b"Hello");
    assert_eq!(
        (
            serial.metrics().bytes_out.get(),
            serial.metrics().bytes_lost.get()
        ),
        (5, 1)
    );
}

#[test]
fn input_interrupts_and_is_read_byte_by_byte() {
    let (mut serial, _, line, wanted) = serial();
    serial.write(1, &[1]);
    assert_eq!(serial.enqueue(b"ab"), 2);
    assert_eq!(line.count(), 1);
    assert_eq!(read(&mut serial, 5) & 1, 1);
    assert_eq!(read(&mut serial, 0), b'a');
    assert_eq!(wanted.load(Ordering::SeqCst), 0);
    assert_eq!(read(&mut serial, 0), b'b');
    assert_eq!(wanted.load(Ordering::SeqCst), 1);
    assert_eq!(read(&mut serial, 5) & 1, 0);
}

#[test]
fn input_beyond_the_fifo_is_refused() {
    let (mut serial, _, _, _) = serial();
    let room = serial.room();
    assert_eq!(serial.enqueue(&vec![7; room + 10]), room);
    assert_eq!((serial.room(), serial.enqueue(b"x")), (0, 0));
}

#[test]
fn a_saved_port_goes_on_with_its_registers_and_input() {
    let (mut serial, _, line, _) = serial();
    serial.write(7, &[0x5a]);
    serial.enqueue(b"rest");
    let json = serde_json::to_string(&serial.save()).unwrap();
    let state: State = serde_json::from_str(&json).unwrap();
    let mut again = Serial::restore(state, line, Box::new(Sink::default()), Box::new(|| ())).unwrap();
    assert_eq!(read(&mut again, 7), 0x5a);
    assert_eq!(read(&mut again, 0), b'r');
    let full = State {
        input: vec![0; 1000],
        ..serial.save()
    };
    assert!(
        Serial::restore(
            full,
            Arc::<TestInterrupt>::default(),
            Box::new(Sink::default()),
            Box::new(|| ())
        )
        .is_err()
    );
}
