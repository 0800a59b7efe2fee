//! The watchdog as its driver drives it.

use super::*;
use proptest::prelude::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn unlock(watchdog: &mut Watchdog) {
    for word in UNLOCK {
        watchdog.write_bar(0, RELOAD, &word.to_le_bytes());
    }
}

/// A register of the BAR, with the unlock sequence before it.
fn write(watchdog: &mut Watchdog, offset: u64, value: u32) {
    unlock(watchdog);
    watchdog.write_bar(0, offset, &value.to_le_bytes());
}

fn feed(watchdog: &mut Watchdog) {
    write(watchdog, RELOAD, u32::from(RELOAD_TIMER));
}

/// A watchdog with stages of this many milliseconds, roughly.
fn started(ticks: u32) -> Watchdog {
    let mut watchdog = Watchdog::new().unwrap();
    watchdog.write_config(CONFIGURATION, &3u16.to_le_bytes());
    write(&mut watchdog, PRELOAD_1, ticks);
    write(&mut watchdog, PRELOAD_2, ticks);
    watchdog.write_config(LOCK, &[ENABLED]);
    watchdog
}

fn wait(watchdog: &Watchdog) {
    let mut poll = libc::pollfd {
        fd: watchdog.timer_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one structure that lives for the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, PATIENCE.as_millis() as i32) };
    assert_eq!(ready, 1, "the timer runs out");
}

#[test]
fn a_watchdog_that_is_not_fed_resets_the_machine_after_its_second_stage() {
    let mut watchdog = started(1);
    wait(&watchdog);
    assert!(!watchdog.elapsed(), "the first stage only begins the second");
    wait(&watchdog);
    assert!(watchdog.elapsed());
    assert_eq!(watchdog.deadline, None);
    let mut status = [0; 2];
    watchdog.read_bar(0, RELOAD, &mut status);
    assert_eq!(u16::from_le_bytes(status), TIMED_OUT);
    write(&mut watchdog, RELOAD, u32::from(TIMED_OUT));
    watchdog.read_bar(0, RELOAD, &mut status);
    assert_eq!(status, [0, 0]);
}

#[test]
fn feeding_starts_again_from_the_first_stage() {
    let mut watchdog = started(1);
    wait(&watchdog);
    assert!(!watchdog.elapsed());
    write(&mut watchdog, PRELOAD_1, PRELOAD_MASK);
    feed(&mut watchdog);
    assert!(!watchdog.second_stage && watchdog.deadline.unwrap() > Instant::now() + Duration::from_secs(60));
    assert!(
        !watchdog.elapsed(),
        "what ran out before it was fed does not count"
    );
}

#[test]
fn writes_without_the_unlock_sequence_do_nothing() {
    let mut watchdog = started(PRELOAD_MASK);
    let deadline = watchdog.deadline;
    for words in [
        &[RELOAD_TIMER][..],
        &[0x80, RELOAD_TIMER],
        &[0x86, 0x80, RELOAD_TIMER],
        &[0x80, 0x86, 0, RELOAD_TIMER],
    ] {
        for word in words {
            watchdog.write_bar(0, RELOAD, &word.to_le_bytes());
        }
        assert_eq!(watchdog.deadline, deadline, "{words:x?}");
    }
    watchdog.write_bar(0, PRELOAD_1, &1u32.to_le_bytes());
    assert_eq!(watchdog.preload, [PRELOAD_MASK; 2]);
    feed(&mut watchdog);
    assert_ne!(watchdog.deadline, deadline);
}

#[test]
fn a_locked_watchdog_cannot_be_stopped() {
    let mut watchdog = started(PRELOAD_MASK);
    watchdog.write_config(LOCK, &[0]);
    assert_eq!(watchdog.deadline, None, "it stops unless it is locked");
    watchdog.write_config(LOCK, &[ENABLED | LOCKED]);
    watchdog.write_config(LOCK, &[0]);
    let mut lock = [0];
    watchdog.read_config(LOCK, &mut lock);
    assert_eq!(lock, [ENABLED | LOCKED]);
    assert!(watchdog.deadline.is_some());
}

#[test]
fn a_guest_may_ask_for_no_reset() {
    let mut watchdog = started(1);
    watchdog.write_config(CONFIGURATION, &(3 | NO_RESET).to_le_bytes());
    for _ in 0..2 {
        wait(&watchdog);
        assert!(!watchdog.elapsed());
    }
    assert!(watchdog.timed_out);
}

#[test]
fn time_stands_still_while_the_machine_does_and_across_a_snapshot() {
    let mut watchdog = started(PRELOAD_MASK);
    watchdog.pause();
    assert_eq!(watchdog.deadline, None);
    let state = watchdog.save();
    assert!(state.left_us.unwrap() > 60_000_000);
    let mut restored = Watchdog::restore(state.clone()).unwrap();
    assert_eq!(restored.save(), state);
    restored.resume();
    assert!(restored.deadline.unwrap() > Instant::now() + Duration::from_secs(60));
    let mut broken = state;
    broken.config[0] ^= 1;
    assert!(matches!(Watchdog::restore(broken), Err(WatchdogError::State)));
}

proptest! {
    #[test]
    fn whatever_the_guest_writes_the_watchdog_stays_in_shape(
        writes in proptest::collection::vec((any::<bool>(), 0u64..0x100, proptest::collection::vec(any::<u8>(), 1..8)), 0..64),
    ) {
        let mut watchdog = Watchdog::new().unwrap();
        for (config, offset, data) in writes {
            match config {
                true => watchdog.write_config(offset as u16, &data),
                false => watchdog.write_bar(0, offset, &data),
            }
            watchdog.read_bar(0, offset, &mut data.clone());
            let _ = watchdog.elapsed();
            prop_assert!(watchdog.preload.iter().all(|value| *value <= PRELOAD_MASK) && watchdog.unlocked <= 2);
        }
    }
}
