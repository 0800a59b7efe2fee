use super::*;

#[test]
fn instance_names_are_host_names() {
    for name in ["c1", "a", "web-server", "UPPER", "1a", &"x".repeat(63)] {
        instance_name(name).unwrap();
    }
    for (name, why) in [
        ("", "1-63 characters"),
        (&*"x".repeat(64), "1-63 characters"),
        ("123", "cannot be a number"),
        ("-a", "must not start"),
        ("a-", "must not end"),
        ("a_b", "alphanumeric and hyphen"),
        ("a/b", "alphanumeric and hyphen"),
        ("../x", "alphanumeric and hyphen"),
        ("ä", "alphanumeric and hyphen"),
    ] {
        let error = instance_name(name).unwrap_err();
        assert!(
            error.message.starts_with("Invalid instance name: ") && error.message.contains(why),
            "{name}: {error}"
        );
        assert_eq!(error.status, 400);
    }
}

#[test]
fn snapshot_names_are_file_names() {
    for name in ["s0", "snap_1.2", "2026-11-24"] {
        snapshot_name(name).unwrap();
    }
    for name in ["", "..", ".hidden", "a/b", "a b", "a?b", "a\nb"] {
        assert!(snapshot_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn raw_keys_are_refused_with_the_reason() {
    let mut config = Expanded::default();
    config.config.insert("user.raw".into(), "fine".into());
    check_supported(&config).unwrap();
    config.config.insert("raw.lxc".into(), "lxc.cap.drop=".into());
    assert!(
        check_supported(&config)
            .unwrap_err()
            .message
            .contains("\"raw.lxc\" is not supported")
    );
}
