//! What the picture says.

use super::*;
use crate::report::{Row, figures};

fn row(name: &str, better: Better, ours: f64, theirs: f64) -> Row {
    Row {
        name: name.to_owned(),
        unit: "ms",
        better,
        ours: Ok(ours),
        peers: vec![("qemu".to_owned(), Ok(theirs))],
    }
}

#[test]
fn better_is_green_and_to_the_right_whatever_the_unit() {
    let rows = [
        row("time", Better::Lower, 1.0, 10.0),
        row("throughput", Better::Higher, 20.0, 10.0),
        row("slow <thing>", Better::Lower, 4.0, 1.0),
    ];
    let picture = svg(&figures(&rows), "here & now");
    for said in [
        "10.00 times",
        "2.00 times",
        "0.25 times",
        "slow &lt;thing&gt; / qemu",
        "here &amp; now",
    ] {
        assert!(picture.contains(said), "{said} is missing from {picture}");
    }
    assert_eq!(picture.matches("#2a7f62").count(), 2);
    assert_eq!(picture.matches("#c44536").count(), 1);
}

#[test]
fn what_has_no_ratio_has_no_bar() {
    let alone = Row {
        peers: Vec::new(),
        ..row("alone", Better::Lower, 1.0, 1.0)
    };
    assert!(!svg(&figures(&[alone]), "").contains("alone"));
}
