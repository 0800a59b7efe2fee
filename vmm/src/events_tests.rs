//! The selector register.

use super::*;
use std::sync::atomic::AtomicUsize;

#[derive(Default)]
struct Count(AtomicUsize);

impl InterruptLine for Count {
    fn trigger(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn events_collect_until_they_are_read() {
    let line = Arc::<Count>::default();
    let events = Events::new(line.clone());
    let mut selector = events.selector();
    events.raise(Event::PowerButton).unwrap();
    events.raise(Event::Slots).unwrap();
    events.raise(Event::Slots).unwrap();
    assert_eq!(line.0.load(Ordering::SeqCst), 3);
    let mut byte = [0xff];
    selector.write(0, &[0]);
    selector.read(0, &mut [0; 4]);
    selector.read(0, &mut byte);
    assert_eq!(byte, [5]);
    selector.read(0, &mut byte);
    assert_eq!(byte, [0]);
}
