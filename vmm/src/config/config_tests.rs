//! What a configuration may and may not say.

use super::*;

fn minimal() -> serde_json::Value {
    serde_json::json!({
        "name": "v1", "memory_bytes": 128 << 20, "run_dir": "/run/v1",
        "kernel": {"path": "vmlinux"},
    })
}

fn parse(value: &serde_json::Value) -> Result<VmConfig, ConfigError> {
    VmConfig::from_json(value.to_string().as_bytes())
}

#[test]
fn a_short_document_gets_the_documented_defaults() {
    let config = parse(&minimal()).unwrap();
    assert_eq!((config.vcpus, config.transport), (1, Transport::Pci));
    assert!(config.autostart && config.rng && !config.console && config.sandbox.seccomp);
    assert_eq!(
        config.resolve(&config.control_socket),
        Path::new("/run/v1/control.sock")
    );
    assert_eq!(config.serial, SerialConfig::default());
}

#[test]
fn a_full_document_survives_a_round_trip() {
    let mut value = minimal();
    value["disks"] =
        serde_json::json!([{"id": "root", "path": "/d.raw", "read_only": true, "serial": "abc"}]);
    value["nets"] =
        serde_json::json!([{"id": "eth0", "tap": "tap0", "mac": "10:66:6A:00:00:01", "mtu": 1500}]);
    value["vsock"] = serde_json::json!({"cid": 3, "socket": "vsock.sock"});
    value["sandbox"] = serde_json::json!({"uid": 1000, "gid": 1000, "seccomp": false});
    value["kernel"]["protocol"] = "pvh".into();
    value["vcpus"] = 2.into();
    value["cpu"] = serde_json::json!({"max": 4, "topology": {"sockets": 1, "cores": 2, "threads": 2}});
    value["memory"] = serde_json::json!({"shared": true});
    value["balloon"] =
        serde_json::json!({"target_bytes": 4096, "deflate_on_oom": false, "statistics_interval_s": 5});
    let config = parse(&value).unwrap();
    assert_eq!(config.nets[0].mac.to_string(), "10:66:6a:00:00:01");
    let again = parse(&serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn wrong_values_are_refused_with_field_value_and_remedy() {
    let net = |net: serde_json::Value| serde_json::json!([net]);
    let cases = [
        ("/vcpus", serde_json::json!(0), "`vcpus` is 0: use 1 to 32"),
        ("/vcpus", serde_json::json!(33), "`vcpus` is 33: use 1 to 32"),
        ("/vcpus", serde_json::json!(300), "300"),
        (
            "/cpu",
            serde_json::json!({"max": 0}),
            "`cpu.max` is 0: use 1 (`vcpus`) to 32",
        ),
        ("/cpu", serde_json::json!({"max": 33}), "`cpu.max` is 33"),
        (
            "/cpu",
            serde_json::json!({"max": 4, "topology": {"sockets": 1, "cores": 3, "threads": 1}}),
            "`cpu.topology` is 1 sockets of 3 cores of 1 threads: their product has to be the number of vCPUs (4;",
        ),
        (
            "/cpu",
            serde_json::json!({"topology": {"sockets": 0, "cores": 1, "threads": 1}}),
            "`cpu.topology`",
        ),
        (
            "/memory_bytes",
            serde_json::json!(134217729),
            "`memory_bytes` is 134217729: use a multiple of 4096",
        ),
        (
            "/memory_bytes",
            serde_json::json!(4096),
            "`memory_bytes` is 4096: use 2097152 to",
        ),
        (
            "/memory_bytes",
            serde_json::json!(1u64 << 41),
            "use 2097152 to 1099511627776",
        ),
        ("/name", serde_json::json!(""), "1 to 128 printable characters"),
        (
            "/kernel",
            serde_json::json!({"path": ""}),
            "`kernel.path` is \"\": give the path",
        ),
        (
            "/kernel",
            serde_json::json!({"path": "k", "cmdline": "a\nb"}),
            "printable ASCII",
        ),
        (
            "/kernel",
            serde_json::json!({"path": "k", "cmdline": "x".repeat(2048)}),
            "at most 2047 bytes",
        ),
        (
            "/kernel",
            serde_json::json!({"path": "k", "protocol": "grub"}),
            "unknown variant `grub`",
        ),
        (
            "/kernel",
            serde_json::json!({"path": "k", "initrd": [""]}),
            "`kernel.initrd[0]`",
        ),
        ("/transport", serde_json::json!("isa"), "expected `pci` or `mmio`"),
        ("/sound", serde_json::json!(true), "unknown field `sound`"),
        (
            "/vsock",
            serde_json::json!({"cid": 2, "socket": "s"}),
            "`vsock.cid` is 2",
        ),
        (
            "/sandbox",
            serde_json::json!({"gid": 5}),
            "set sandbox.uid with it",
        ),
        (
            "/disks",
            serde_json::json!([{"id": "a/b", "path": "d"}]),
            "`disks[0].id` is \"a/b\"",
        ),
        (
            "/disks",
            serde_json::json!([{"id": "a", "path": "d"}, {"id": "a", "path": "e"}]),
            "already",
        ),
        (
            "/disks",
            serde_json::json!([{"id": "a", "path": "fd:7"}, {"id": "b", "path": "fd:7"}]),
            "uses this descriptor",
        ),
        (
            "/disks",
            serde_json::json!([{"id": "a", "path": "fd:x"}]),
            "`./fd:...` is a file of this name",
        ),
        ("/run_dir", serde_json::json!("fd:7"), "has to be a path"),
        (
            "/disks",
            serde_json::json!([{"id": "a", "path": "d", "serial": "é"}]),
            "20 printable ASCII",
        ),
        (
            "/nets",
            net(serde_json::json!({"id": "n", "mac": "10:66:6a:00:00:01"})),
            "either `tap` or `fd`",
        ),
        (
            "/nets",
            net(serde_json::json!({"id": "n", "tap": "t", "fd": 3, "mac": "10:66:6a:00:00:01"})),
            "either",
        ),
        (
            "/nets",
            net(serde_json::json!({"id": "n", "fd": 1, "mac": "10:66:6a:00:00:01"})),
            "standard streams",
        ),
        (
            "/nets",
            net(serde_json::json!({"id": "n", "tap": "t", "mac": "11:66:6a:00:00:01"})),
            "unicast",
        ),
        (
            "/nets",
            net(serde_json::json!({"id": "n", "tap": "t", "mac": "10:66:6a"})),
            "not a hardware address",
        ),
        (
            "/nets",
            net(serde_json::json!({"id": "n", "tap": "waytoolongfortap0", "mac": "10:66:6a:00:00:01"})),
            "15",
        ),
        (
            "/nets",
            net(serde_json::json!({"id": "n", "tap": "t", "mtu": 67, "mac": "10:66:6a:00:00:01"})),
            "68",
        ),
    ];
    for (pointer, value, expected) in cases {
        let mut document = minimal();
        document[&pointer[1..]] = value.clone();
        let message = parse(&document).unwrap_err().to_string();
        assert!(message.contains(expected), "{pointer} = {value}: {message}");
    }
}

#[test]
fn too_many_devices_are_refused() {
    let mut document = minimal();
    let disks: Vec<_> = (0..25)
        .map(|n| serde_json::json!({"id": format!("d{n}"), "path": "d"}))
        .collect();
    document["disks"] = disks.into();
    assert!(
        parse(&document)
            .unwrap_err()
            .to_string()
            .contains("25 disks and 0 nets")
    );
}

#[test]
fn descriptors_are_known_and_belong_to_one_part_of_the_vm() {
    let mut value = minimal();
    value["kernel"] = serde_json::json!({"path": "fd:9", "initrd": ["fd:8"]});
    value["nets"] = serde_json::json!([{"id": "n", "fd": 7, "mac": "10:66:6a:00:00:01"}]);
    value["control_socket"] = "fd:3".into();
    let config = parse(&value).unwrap();
    assert_eq!(config.descriptors(), [3, 7, 8, 9]);
    assert_eq!(config.resolve(&config.kernel.path), Path::new("fd:9"));
    value["control_socket"] = "fd:9".into();
    assert!(
        parse(&value)
            .unwrap_err()
            .to_string()
            .contains("uses this descriptor")
    );
}

#[test]
fn a_missing_file_is_named() {
    let message = VmConfig::from_file(Path::new("/nonexistent/spec.json"))
        .unwrap_err()
        .to_string();
    assert!(message.contains("/nonexistent/spec.json"), "{message}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused_without_a_panic(bytes: Vec<u8>) {
        let _ = VmConfig::from_json(&bytes);
    }

    #[test]
    fn mac_addresses_print_as_they_parse(mut bytes: [u8; 6]) {
        bytes[0] = (bytes[0] & 0xfe) | 2;
        let mac = MacAddress(bytes);
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
    }
}

#[test]
fn a_burst_without_a_rate_is_refused() {
    let limits = |json: &str| serde_json::from_str::<Limits>(json).unwrap();
    let full = limits(r#"{"bytes_per_second": 1000, "bytes_burst": 5}"#);
    assert!(check_limits("disks[0].limits", &full).is_ok());
    let lonely = limits(r#"{"bytes_per_second": 1000, "operations_burst": 5}"#);
    assert_eq!(
        check_limits("disks[0].limits", &lonely).unwrap_err().to_string(),
        "configuration field `disks[0].limits.operations_burst` is 5: set `operations_per_second`, too"
    );
}
