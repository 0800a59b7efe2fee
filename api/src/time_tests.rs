use super::Timestamp;

#[test]
fn the_default_is_gos_zero_time() {
    assert_eq!(
        serde_json::to_string(&Timestamp::default()).unwrap(),
        "\"0001-01-01T00:00:00Z\""
    );
    assert_eq!(
        serde_json::to_string(&Timestamp::unix_epoch()).unwrap(),
        "\"1970-01-01T00:00:00Z\""
    );
}

#[test]
fn null_and_empty_text_are_never() {
    for text in ["null", "\"\"", "\"0001-01-01T00:00:00Z\""] {
        assert!(
            serde_json::from_str::<Timestamp>(text).unwrap().is_never(),
            "{text}"
        );
    }
    assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
}

#[test]
fn recorded_times_survive_unchanged() {
    // Go drops trailing zeroes of the fraction, and so must we: clients compare texts.
    for text in [
        "2026-11-23T17:29:16.273116374Z",
        "2026-11-23T17:29:15.3336625Z",
        "2023-11-14T22:13:20Z",
    ] {
        let quoted = format!("\"{text}\"");
        let time: Timestamp = serde_json::from_str(&quoted).unwrap();
        assert_eq!(serde_json::to_string(&time).unwrap(), quoted);
    }
}
