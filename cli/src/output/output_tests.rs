use serde_json::json;

use super::*;

const COLUMNS: [Column; 2] = [
    Column {
        title: "NAME",
        cell: |d| text(&d["name"]),
    },
    Column {
        title: "NOTE",
        cell: |d| text(&d["note"]),
    },
];

#[test]
fn csv_quotes_what_needs_it_and_has_no_header() {
    let documents = [
        json!({"name": "c1", "note": "a,b"}),
        json!({"name": "c2", "note": null}),
    ];
    assert_eq!(csv(&COLUMNS, &documents).unwrap(), "c1,\"a,b\"\nc2,\n");
}

#[test]
fn a_table_shows_titles_and_cells() {
    let shown = table(&COLUMNS, &[json!({"name": "c1", "note": "x"})]);
    assert!(shown.contains("| NAME | NOTE |"), "{shown}");
    assert!(shown.contains("| c1   | x    |"), "{shown}");
}

#[test]
fn sizes_read_as_people_write_them() {
    assert_eq!(size(0), "0B");
    assert_eq!(size(1023), "1023B");
    assert_eq!(size(1536), "1.50KiB");
    assert_eq!(size(10 * 1024 * 1024 * 1024), "10.00GiB");
}
