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
