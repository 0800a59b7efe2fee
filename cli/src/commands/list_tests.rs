use serde_json::json;

use super::*;

fn instance() -> Value {
    json!({
        "name": "web1", "status": "Running", "type": "virtual-machine", "ephemeral": false,
        "expanded_config": {"limits.cpu": "2"},
        "state": {"network": {
            "lo": {"addresses": [{"family": "inet", "address": "127.0.0.1", "scope": "local"}]},
            "eth0": {"addresses": [
                {"family": "inet", "address": "10.1.2.3", "scope": "global"},
                {"family": "inet6", "address": "fe80::1", "scope": "link"},
            ]},
        }},
    })
}

#[test]
fn only_global_addresses_are_shown() {
    assert_eq!(addresses(&instance(), "inet"), "10.1.2.3 (eth0)");
    assert_eq!(addresses(&instance(), "inet6"), "");
}

#[test]
fn filters_look_at_names_state_type_and_keys() {
    for (filter, expected) in [
        ("web", true),
        ("eb1", false),
        ("status=running", true),
        ("status=stopped", false),
        ("type=virtual-machine", true),
        ("type=container", false),
        ("limits.cpu=2", true),
        ("limits.cpu=1", false),
        ("user.absent=1", false),
    ] {
        assert_eq!(fits(&instance(), filter), expected, "{filter}");
    }
}

#[test]
fn an_unknown_column_is_refused_with_the_known_ones() {
    let err = columns("nx").err().unwrap().to_string();
    assert!(err.contains("'x'") && err.contains("ns46tS"), "{err}");
    assert_eq!(columns("n,s").unwrap().len(), 2);
}
