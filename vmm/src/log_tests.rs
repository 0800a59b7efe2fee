//! Lines of the log.

use super::*;
use std::sync::Arc;

#[test]
fn an_event_is_one_line_with_its_fields() {
    let line = Line {
        message: "cannot\nwait".into(),
        fields: vec![("error", "x\ny".into()), ("count", 3.into())],
    };
    assert_eq!(
        as_text(&Level::WARN, "vmm::supervisor", &line, 0),
        "WARN  vmm::supervisor: cannot wait error=\"x\\ny\" count=3\n"
    );
    let text = as_json("v1", &Level::WARN, "vmm::supervisor", &line, 7);
    assert_eq!(text.matches('\n').count(), 1, "{text}");
    let mut object: Value = serde_json::from_str(&text).unwrap();
    assert!(object["time"].as_f64().unwrap() > 1.7e9, "{text}");
    object["time"] = 0.into();
    object["thread"] = "t".into();
    assert_eq!(
        object,
        json!({
            "time": 0, "level": "WARN", "target": "vmm::supervisor", "vm": "v1", "thread": "t", "message": "cannot\nwait",
            "fields": {"error": "x\ny", "count": 3}, "left_out": 7,
        })
    );
}

#[test]
fn numbers_are_numbers_where_there_are_some() {
    struct Taken(Arc<Mutex<Line>>);
    impl Subscriber for Taken {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, event: &Event<'_>) {
            event.record(&mut *self.0.lock().unwrap());
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    let line = Arc::<Mutex<Line>>::default();
    tracing::subscriber::with_default(Taken(line.clone()), || {
        tracing::info!(
            count = 3,
            less = -1,
            ratio = 0.25,
            none = f64::NAN,
            yes = true,
            "m"
        );
    });
    let text = as_json("v1", &Level::INFO, "t", &line.lock().unwrap(), 0);
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        object["fields"],
        json!({"count": 3, "less": -1, "ratio": 0.25, "none": "NaN", "yes": true})
    );
}

#[test]
fn events_below_the_level_are_not_formatted() {
    let log = StderrLog::new(LogConfig::default(), "v1");
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
