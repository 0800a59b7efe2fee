use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn only_the_reset_command_resets() {
    let resets = Arc::new(AtomicU32::new(0));
    let counter = resets.clone();
    let mut i8042 = I8042::new(Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    for offset in 0..SIZE {
        for value in 0..=255 {
            i8042.write(offset, &[value]);
        }
        i8042.write(offset, &[0xfe, 0xfe]);
        i8042.write(offset, &[]);
    }
    assert_eq!(resets.load(Ordering::SeqCst), 1);
}

#[test]
fn a_probing_driver_finds_an_idle_controller() {
    let mut i8042 = I8042::new(Box::new(|| ()));
    let read = |i8042: &mut I8042, offset| {
        let mut data = [0xff];
        i8042.read(offset, &mut data);
        data[0]
    };
    assert_eq!(read(&mut i8042, COMMAND), STATUS_SYSTEM);
    i8042.write(COMMAND, &[SELF_TEST]);
    assert_eq!(read(&mut i8042, COMMAND), STATUS_SYSTEM | STATUS_OUTPUT_FULL);
    assert_eq!(read(&mut i8042, DATA), SELF_TEST_PASSED);
    assert_eq!(read(&mut i8042, COMMAND), STATUS_SYSTEM);
    assert_eq!(read(&mut i8042, DATA), 0);
}
