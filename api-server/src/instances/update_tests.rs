use api::{InstanceType, Timestamp};

use super::*;

fn record() -> InstanceRecord {
    InstanceRecord {
        name: "c1".into(),
        project: "default".into(),
        kind: InstanceType::Container,
        architecture: "x86_64".into(),
        config: [
            ("user.a", "1"),
            ("volatile.uuid", "u"),
            ("volatile.eth0.hwaddr", "10:66:6a:00:00:01"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        devices: api::Devices::new(),
        profiles: vec!["default".into()],
        ephemeral: false,
        description: "before".into(),
        created_at: Timestamp::now(),
        last_used_at: Timestamp::unix_epoch(),
        pool: "default".into(),
        phase: Phase::Ready,
    }
}

fn put(pairs: &[(&str, &str)]) -> InstancePut {
    let config = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    InstancePut {
        config,
        ..InstancePut::default()
    }
}

#[test]
fn a_put_replaces_everything_but_what_the_daemon_wrote() {
    let changed = merged(
        &record(),
        put(&[("user.b", "2"), ("volatile.uuid", "forged")]),
        false,
    );
    assert_eq!(changed.config.get("user.a"), None);
    assert_eq!(changed.config["user.b"], "2");
    assert_eq!(changed.config["volatile.uuid"], "u");
    assert_eq!(changed.description, "");
    assert_eq!(changed.profiles, ["default"], "null leaves the profiles");
}

#[test]
fn a_patch_adds_changes_and_unsets() {
    let changed = merged(&record(), put(&[("user.b", "2"), ("user.a", "")]), true);
    assert_eq!(changed.config.get("user.a"), None);
    assert_eq!(changed.config["user.b"], "2");
    assert_eq!(changed.description, "before");
    assert_eq!(changed.config["volatile.eth0.hwaddr"], "10:66:6a:00:00:01");
}
