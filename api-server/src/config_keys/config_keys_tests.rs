use std::time::Duration;

use api::{Devices, InstanceType, Map};
use proptest::prelude::*;

use super::{
    check_devices, check_instance_key, check_pool_config, check_volume_config, parse_bytes, parse_duration,
};

const CONTAINER: Option<InstanceType> = Some(InstanceType::Container);
const VM: Option<InstanceType> = Some(InstanceType::VirtualMachine);

#[test]
fn known_keys_with_right_values_pass() {
    for (key, value) in [
        ("limits.cpu", "2"),
        ("limits.cpu", "0-3,5"),
        ("limits.memory", "512MiB"),
        ("limits.memory", "50%"),
        ("limits.cpu.allowance", "25ms/100ms"),
        ("limits.processes", "100"),
        ("boot.autostart", "yes"),
        ("security.nesting", "true"),
        ("security.nesting", ""),
        ("user.anything", "at all"),
        ("environment.PATH", "/bin"),
        ("image.os", "Debian"),
        ("raw.idmap", "both 1000 1000"),
    ] {
        check_instance_key(key, value, CONTAINER).unwrap_or_else(|error| panic!("{key}={value}: {error}"));
        check_instance_key(key, value, None).unwrap_or_else(|error| panic!("profile {key}={value}: {error}"));
    }
    check_instance_key("volatile.uuid", "x", VM).unwrap();
    check_instance_key("security.secureboot", "false", VM).unwrap();
}

#[test]
fn wrong_keys_and_values_are_refused_with_the_key_in_the_message() {
    for (key, value, instance) in [
        ("limits.cpus", "2", CONTAINER),
        ("limits.cpu", "0", CONTAINER),
        ("limits.cpu", "3-1", CONTAINER),
        ("limits.memory", "lots", CONTAINER),
        ("limits.memory", "101%", CONTAINER),
        ("limits.cpu.priority", "11", CONTAINER),
        ("boot.autostart", "maybe", CONTAINER),
        ("security.secureboot", "true", CONTAINER),
        ("security.nesting", "true", VM),
        ("user.", "x", CONTAINER),
    ] {
        let error = check_instance_key(key, value, instance).expect_err(key);
        assert_eq!(error.status, http::StatusCode::BAD_REQUEST);
        assert!(error.message.contains(key), "{}", error.message);
    }
    assert!(
        check_instance_key("volatile.uuid", "x", None).is_err(),
        "not for profiles"
    );
}

fn devices(pairs: &[(&str, &[(&str, &str)])]) -> Devices {
    let map = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<Map>()
    };
    pairs
        .iter()
        .map(|(name, device)| ((*name).to_owned(), map(device)))
        .collect()
}

#[test]
fn devices_need_a_type_that_is_known_and_keys_that_are_its_own() {
    let root: (&str, &[(&str, &str)]) = (
        "root",
        &[
            ("type", "disk"),
            ("path", "/"),
            ("pool", "default"),
            ("size", "2GiB"),
        ],
    );
    check_devices(&devices(&[
        root,
        ("eth0", &[("type", "nic"), ("network", "br0"), ("name", "eth0")]),
        ("eth1", &[("type", "none")]),
        ("data", &[("type", "disk"), ("source", "/srv"), ("path", "/srv")]),
    ]))
    .unwrap();
    for (device, message) in [
        (&[("type", "disk"), ("path", "/")][..], "\"pool\" property"),
        (&[("path", "/")], "Missing device type"),
        (&[("type", "teapot")], "Unsupported device type"),
        (
            &[("type", "nic"), ("network", "br0"), ("colour", "red")],
            "Invalid device option \"colour\"",
        ),
        (&[("type", "nic")], "\"network\" or \"nictype\""),
        (
            &[("type", "disk"), ("path", "/x")],
            "missing the required \"source\"",
        ),
        (&[("type", "nic"), ("network", "br0"), ("mtu", "big")], "\"mtu\""),
    ] {
        let error = check_devices(&devices(&[("dev", device)])).expect_err(message);
        assert!(error.message.contains(message), "{}", error.message);
    }
    let two = devices(&[root, ("other", &[("type", "disk"), ("path", "/"), ("pool", "p")])]);
    assert!(
        check_devices(&two)
            .unwrap_err()
            .message
            .contains("More than one root disk")
    );
}

#[test]
fn pools_hand_defaults_to_their_volumes() {
    let map = |key: &str, value: &str| Map::from([(key.to_owned(), value.to_owned())]);
    assert!(check_pool_config(&map("volume.size", "1GiB")).is_ok());
    assert!(check_pool_config(&map("volume.colour", "red")).is_err());
    assert!(check_volume_config(&map("size", "10GB")).is_ok());
    assert!(check_volume_config(&map("size", "big")).is_err());
}

#[test]
fn sizes_and_spans_are_read_with_their_units() {
    assert_eq!(parse_bytes("1024"), Ok(1024));
    assert_eq!(parse_bytes("1kB"), Ok(1000));
    assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
    assert_eq!(parse_bytes("10GB"), Ok(10_000_000_000));
    for wrong in ["", "GiB", "-1", "1.5GiB", "1XB", "99999999999EiB"] {
        assert!(parse_bytes(wrong).is_err(), "{wrong}");
    }
    assert_eq!(parse_duration("1H 30M"), Ok(Duration::from_secs(5400)));
    assert_eq!(parse_duration("2d"), Ok(Duration::from_secs(172_800)));
    for wrong in ["1", "H", "1x", "é"] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,30}") {
        let _ = parse_bytes(&text);
        let _ = parse_duration(&text);
        for key in ["limits.cpu", "limits.memory", "limits.cpu.allowance", "boot.autostart", "limits.cpu.priority"] {
            let _ = check_instance_key(key, &text, CONTAINER);
        }
    }

    #[test]
    fn sizes_in_bytes_are_themselves(bytes in any::<u64>()) {
        prop_assert_eq!(parse_bytes(&bytes.to_string()), Ok(bytes));
    }
}
