//! What becomes of a resource's document.

use super::*;
use api::{ProfilePut, ProjectPut};
use serde_json::json;

fn profile() -> Value {
    json!({
        "name": "p", "description": "old", "used_by": [],
        "config": {"limits.cpu": "1", "user.a": "x"},
        "devices": {"root": {"type": "disk", "size": "1GiB"}, "eth0": {"type": "nic"}},
    })
}

fn update(partial: bool, document: Value) -> Result<ProfilePut, ApiError> {
    Update { partial, document }.over(&profile())
}

#[test]
fn a_put_replaces_all_that_can_be_set() {
    let put = update(false, json!({"config": {"user.b": "y"}})).unwrap();
    assert_eq!(put.config, [("user.b".to_owned(), "y".to_owned())].into());
    assert!(put.devices.is_empty() && put.description.is_empty());
}

#[test]
fn a_patch_leaves_what_it_does_not_name() {
    let put = update(
        true,
        json!({"config": {"user.a": "z"}, "devices": {"root": {"type": "disk"}}}),
    )
    .unwrap();
    assert_eq!(put.description, "old");
    assert_eq!(put.config["limits.cpu"], "1");
    assert_eq!(put.config["user.a"], "z");
    assert!(put.devices.contains_key("eth0"));
    // A device is one thing: its properties are not mixed with those of the old one.
    assert_eq!(put.devices["root"].len(), 1);
}

#[test]
fn fields_that_are_null_change_nothing() {
    let put = update(
        true,
        json!({"config": null, "devices": null, "description": "new"}),
    )
    .unwrap();
    assert_eq!((put.config.len(), put.devices.len()), (2, 2));
    assert_eq!(put.description, "new");
}

#[test]
fn a_document_of_another_shape_is_refused() {
    for document in [
        json!([]),
        json!({"config": "x"}),
        json!({"description": {"a": 1}}),
    ] {
        for partial in [true, false] {
            let refused = update(partial, document.clone()).unwrap_err();
            assert!(refused.to_string().contains("Invalid JSON"), "{refused}");
        }
    }
    let empty = Update {
        partial: true,
        document: json!({}),
    };
    assert!(
        empty
            .over::<ProjectPut>(&json!({"config": {}, "description": ""}))
            .is_ok()
    );
}
