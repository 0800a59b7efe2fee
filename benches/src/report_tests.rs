use super::*;

fn row(ours: Outcome, peers: &[(&str, Outcome)]) -> Row {
    Row {
        name: "start".to_owned(),
        unit: "ms",
        better: Better::Lower,
        ours,
        peers: peers
            .iter()
            .map(|(name, outcome)| ((*name).to_owned(), outcome.clone()))
            .collect(),
    }
}

#[test]
fn a_row_becomes_one_figure_for_each_peer() {
    let figures = figures(&[row(Ok(2.0), &[("crun", Ok(4.0)), ("runc", Ok(8.0))])]);
    assert_eq!(figures.len(), 2);
    assert_eq!(figures[0].ratio, Some(0.5));
    assert_eq!(figures[1].peer.as_deref(), Some("runc"));
    assert_eq!(figures[1].ratio, Some(0.25));
}

#[test]
fn what_is_missing_has_a_reason_and_no_ratio() {
    let figures = figures(&[row(Ok(2.0), &[("crun", Err("it is not installed".to_owned()))])]);
    assert_eq!(figures[0].value, Some(2.0));
    assert_eq!(figures[0].ratio, None);
    assert_eq!(
        figures[0].not_measured.as_deref(),
        Some("crun: it is not installed")
    );
    let json = serde_json::to_value(&figures[0]).unwrap();
    assert_eq!(json["peer_value"], serde_json::Value::Null);
    let table = table(&figures);
    assert!(
        table.contains("Not measured: start: crun: it is not installed"),
        "{table}"
    );
}

#[test]
fn a_figure_without_peers_is_kept() {
    let figures = figures(&[row(Ok(2.0), &[])]);
    assert_eq!((figures.len(), figures[0].peer.clone()), (1, None));
    assert!(!table(&figures).to_lowercase().contains("not measured"));
}

#[test]
fn a_reason_is_told_once() {
    let missing = || row(Err("not built".to_owned()), &[("crun", Ok(1.0))]);
    let table = table(&figures(&[missing(), missing()]));
    assert_eq!(table.matches("Virga: not built").count(), 1);
    assert!(table.contains("start and 1 more"), "{table}");
}

#[test]
fn the_verdict_follows_the_direction() {
    let mut faster = row(Ok(50.0), &[("incus", Ok(100.0))]);
    assert!(table(&figures(&[faster.clone()])).contains("0.500 (better)"));
    faster.better = Better::Higher;
    assert!(table(&figures(&[faster.clone()])).contains("0.500 (worse)"));
    faster.ours = Ok(100.0);
    assert!(table(&figures(&[faster])).contains("(same)"));
}

#[test]
fn numbers_have_three_significant_digits() {
    let shown: Vec<_> = [0.0, 0.01234, 1.0, 12.34, 123.4, 12345.6]
        .into_iter()
        .map(number)
        .collect();
    assert_eq!(shown, ["0.00", "0.0123", "1.00", "12.3", "123", "12346"]);
}
