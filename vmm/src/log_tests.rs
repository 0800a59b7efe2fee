//! Lines of the log.

use super::*;

#[test]
fn an_event_is_one_line_with_its_fields() {
    let line = Line {
        message: "cannot\nwait".into(),
        fields: " error=\"x\"".into(),
    };
    assert_eq!(
        format(&Level::WARN, "vmm::supervisor", &line),
        "WARN  vmm::supervisor: cannot wait error=\"x\"\n"
    );
}

#[test]
fn events_below_the_level_are_not_formatted() {
    let log = StderrLog::new(Level::INFO);
    tracing::subscriber::with_default(log, || {
        assert!(tracing::enabled!(Level::INFO));
        assert!(!tracing::enabled!(Level::DEBUG));
        tracing::info!(answer = 42, "a line on standard error");
    });
}

#[test]
fn a_flood_from_one_place_is_cut_and_counted() {
    let start = Instant::now();
    let mut limit = Limit::new(start);
    let written = (0..1000).filter(|_| limit.take(start).is_some()).count();
    assert_eq!(written, BURST as usize);
    assert_eq!(
        limit.take(start + INTERVAL),
        Some(1000 - u64::from(BURST)),
        "one a second, which says what is missing"
    );
    assert_eq!(limit.take(start + INTERVAL), None);
    let later = start + INTERVAL * 1000;
    let written = (0..1000).filter(|_| limit.take(later).is_some()).count();
    assert_eq!(written, BURST as usize, "quiet times do not add up");
}
