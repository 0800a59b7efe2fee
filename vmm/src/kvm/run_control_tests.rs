//! Threads that stand in for vCPUs.

use super::*;
use std::sync::Arc;
use std::thread;

#[test]
fn threads_run_hold_and_end_as_wanted() {
    let control = Arc::new(RunControl::default());
    let laps = Arc::new(Mutex::new(0u32));
    let threads: Vec<_> = (0..3)
        .map(|index| {
            let (control, laps) = (control.clone(), laps.clone());
            thread::spawn(move || {
                while control.enter(index) {
                    while control.wanted_of(index) == Wanted::Run {
                        *laps.lock().unwrap() += 1;
                        thread::yield_now();
                    }
                    control.leave(index);
                }
            })
        })
        .collect();
    assert!(
        control.wait_until_still(ALL, Duration::ZERO, &|| ()),
        "nobody runs before the start"
    );
    control.want(Wanted::Run);
    while *laps.lock().unwrap() < 10 {
        thread::yield_now();
    }
    control.want(Wanted::Hold);
    assert!(control.wait_until_still(ALL, Duration::from_secs(10), &|| ()));
    let still = *laps.lock().unwrap();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(*laps.lock().unwrap(), still);
    control.hold(ALL);
    control.want(Wanted::Run);
    thread::sleep(Duration::from_millis(20));
    assert_eq!(*laps.lock().unwrap(), still, "a debugger holds them");
    control.release(only(1));
    while *laps.lock().unwrap() == still {
        thread::yield_now();
    }
    assert!(control.wait_until_still(ALL & !only(1), Duration::ZERO, &|| ()));
    control.want(Wanted::End);
    control.want(Wanted::Run);
    assert_eq!(control.wanted(), Wanted::End, "the end is final");
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_vcpu_that_does_not_leave_is_reported() {
    let control = RunControl::default();
    control.want(Wanted::Run);
    assert!(control.enter(0));
    control.want(Wanted::Hold);
    let kicks = std::cell::Cell::new(0);
    assert!(!control.wait_until_still(ALL, Duration::from_millis(50), &|| kicks.set(kicks.get() + 1)));
    assert!(kicks.get() >= 1);
}
