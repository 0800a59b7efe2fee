use super::*;
use serde_json::{Value, json};

/// Checks an interface with these fields changed.
fn check(fields: Value) -> Result<NetConfig, String> {
    let mut document = json!({"id": "eth0", "mac": "10:66:6a:00:00:01"});
    document
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    let config: NetConfig = serde_json::from_value(document).map_err(|error| error.to_string())?;
    let checked = config.check("nets[0]", &mut Names::default());
    checked.map(|()| config).map_err(|error| error.to_string())
}

#[test]
fn a_link_is_named_in_one_of_three_ways() {
    for (fields, pairs, descriptors) in [
        (json!({"tap": "tap0"}), 1, vec![]),
        (json!({"tap": "tap0", "queue_pairs": 4}), 4, vec![]),
        (json!({"fd": 5}), 1, vec![5]),
        (json!({"fds": [5, 7]}), 2, vec![5, 7]),
        (json!({"fds": [5, 7], "queue_pairs": 2}), 2, vec![5, 7]),
    ] {
        let config = check(fields).unwrap();
        assert_eq!(config.queue_pairs(), pairs);
        assert_eq!(config.taps().collect::<Vec<_>>(), descriptors);
    }
}

#[test]
fn links_and_queues_that_do_not_fit_are_refused() {
    for (fields, expected) in [
        (json!({}), "give either `tap` or `fd` or `fds` or `vhost_user`"),
        (json!({"tap": "tap0", "fds": [5]}), "give either"),
        (json!({"fd": 5, "fds": [6]}), "give either"),
        (
            json!({"fds": [5, 5]}),
            "`nets[0].fds[1]` is 5: another part of the VM uses this descriptor",
        ),
        (json!({"fds": [2, 5]}), "`nets[0].fds[0]` is 2"),
        (
            json!({"fds": [5, 6], "queue_pairs": 3}),
            "there are 2 descriptors",
        ),
        (json!({"fd": 5, "queue_pairs": 2}), "there are 1 descriptors"),
        (
            json!({"tap": "tap0", "vhost_user": "/net.sock"}),
            "a vhost-user back end has the link",
        ),
        (
            json!({"vhost_user": "/net.sock", "queue_pairs": 2}),
            "one pair of queues",
        ),
        (
            json!({"tap": "tap0", "vhost": true, "limits": {"receive": {"bytes_per_second": 1}}}),
            "cannot be limited here",
        ),
        (
            json!({"tap": "tap0", "vhost_fds": [7]}),
            "set `vhost` and give one for each of 1 pairs",
        ),
        (
            json!({"fds": [5, 6], "vhost": true, "vhost_fds": [7]}),
            "one for each of 2 pairs",
        ),
        (
            json!({"tap": "tap0", "queue_pairs": 0}),
            "`nets[0].queue_pairs` is 0: use 1 to 32",
        ),
        (
            json!({"tap": "tap0", "queue_pairs": 33}),
            "`nets[0].queue_pairs` is 33: use 1 to 32",
        ),
    ] {
        let message = check(fields.clone()).unwrap_err();
        assert!(message.contains(expected), "{fields}: {message}");
    }
}

#[test]
fn limits_are_checked_for_each_direction() {
    let limits = json!({"receive": {"bytes_per_second": 1_000_000, "bytes_burst": 5000}, "transmit": {"operations_per_second": 10}});
    let config = check(json!({"tap": "tap0", "limits": limits})).unwrap();
    assert_eq!(serde_json::to_value(config.limits).unwrap(), limits);
    let burst = json!({"tap": "tap0", "limits": {"transmit": {"operations_burst": 5}}});
    let message = check(burst).unwrap_err();
    assert!(
        message.contains("nets[0].limits.transmit.operations_burst"),
        "{message}"
    );
    assert!(check(json!({"tap": "tap0", "limits": {"receive": {"bytes_per_second": 0}}})).is_err());
}
