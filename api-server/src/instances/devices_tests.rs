use super::*;

fn devices(entries: &[(&str, &[(&str, &str)])]) -> Devices {
    let keys = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    entries
        .iter()
        .map(|(name, pairs)| ((*name).to_owned(), keys(pairs)))
        .collect()
}

const ROOT: (&str, &[(&str, &str)]) = ("root", &[("type", "disk"), ("path", "/"), ("pool", "default")]);

fn message(entries: &[(&str, &[(&str, &str)])]) -> String {
    read(InstanceType::Container, &devices(entries))
        .unwrap_err()
        .message
}

#[test]
fn the_default_profile_is_understood() {
    let set = read(
        InstanceType::Container,
        &devices(&[
            ROOT,
            (
                "eth0",
                &[("type", "nic"), ("network", "virgabr0"), ("name", "eth0")],
            ),
        ]),
    )
    .unwrap();
    assert_eq!(set.root.pool, "default");
    assert_eq!(set.nics[0].parent, NicParent::Network("virgabr0".into()));
    assert_eq!(set.nics[0].name, "eth0");
}

#[test]
fn an_instance_needs_exactly_one_root() {
    assert_eq!(
        message(&[]),
        "Invalid devices: Failed detecting root disk device: No root device could be found"
    );
    assert!(message(&[ROOT, ("root2", ROOT.1)]).ends_with("More than one root device found"));
}

#[test]
fn what_cannot_be_had_is_refused_with_the_reason() {
    assert!(message(&[ROOT, ("gpu0", &[("type", "gpu")])]).contains("Unsupported device type \"gpu\""));
    assert!(message(&[ROOT, ("e", &[("type", "nic"), ("nictype", "macvlan")])]).contains("macvlan"));
    assert!(message(&[ROOT, ("e", &[("type", "nic"), ("network", "a"), ("hwaddr", "x")])]).contains("\"x\""));
    assert!(
        message(&[
            ROOT,
            ("d", &[("type", "disk"), ("source", "/a"), ("path", "/x/../y")])
        ])
        .contains("goes up")
    );
    assert!(message(&[ROOT, ("d", &[("type", "disk"), ("path", "/x")])]).contains("source"));
    assert!(message(&[("root", &[("type", "disk"), ("path", "/")])]).contains("\"pool\" property"));
    assert!(
        message(&[
            ROOT,
            ("e", &[("type", "nic"), ("network", "a"), ("colour", "red")])
        ])
        .contains("\"colour\"")
    );
}

#[test]
fn a_masked_device_is_not_there() {
    let set = read(
        InstanceType::Container,
        &devices(&[ROOT, ("eth0", &[("type", "none")])]),
    )
    .unwrap();
    assert!(set.nics.is_empty());
}

#[test]
fn two_cards_cannot_have_one_name() {
    let nic: &[(&str, &str)] = &[("type", "nic"), ("network", "a"), ("name", "eth0")];
    assert!(message(&[ROOT, ("a", nic), ("b", nic)]).contains("Duplicate NIC name"));
}

#[test]
fn a_card_without_a_name_gets_one_that_is_free() {
    let nic: &[(&str, &str)] = &[("type", "nic"), ("network", "a")];
    let named: &[(&str, &str)] = &[("type", "nic"), ("network", "a"), ("name", "eth0")];
    let set = read(
        InstanceType::Container,
        &devices(&[ROOT, ("a", nic), ("b", named), ("c", nic)]),
    )
    .unwrap();
    let names: Vec<&str> = set.nics.iter().map(|nic| nic.name.as_str()).collect();
    assert_eq!(names, ["eth1", "eth0", "eth2"]);
}
