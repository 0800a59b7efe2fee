//! A client that sends any text as a list's filter, against an object with every kind of value.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use virgad::filter::Filter;
use virgad::request::Query;

static OBJECT: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "name": "c1",
        "status": "Running",
        "ephemeral": false,
        "size": 1024,
        "none": null,
        "config": {"user.tier": "gold", "limits.cpu": "4"},
        "expanded_devices": {"eth0": {"network": "virgabr0"}},
        "profiles": ["default", "big"],
        "created_at": "2026-11-23T17:29:15Z"
    })
});

fuzz_target!(|text: &str| {
    let query = Query::parse(text);
    for filter in [text, query.get("filter").unwrap_or_default()] {
        if let Ok(filter) = Filter::parse(filter) {
            filter.matches(&OBJECT);
        }
    }
});
