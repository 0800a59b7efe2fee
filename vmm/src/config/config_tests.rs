//! What a configuration may and may not say.

use super::*;
use std::collections::BTreeSet;

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

/// A document with every section, and all fields of disks.
fn full() -> serde_json::Value {
    serde_json::json!({
        "name": "v1", "vcpus": 2, "memory_bytes": 128 << 20, "run_dir": "/run/v1", "transport": "pci",
        "cpu": {"max": 4, "topology": {"sockets": 1, "cores": 2, "threads": 2}},
        "memory": {"shared": true, "hotplug": {"max_bytes": 1 << 30}},
        "kernel": {"path": "vmlinux", "protocol": "pvh", "cmdline": "quiet", "initrd": ["initrd"]},
        "serial": {"log": "c.log", "socket": "c.sock"},
        "disks": [
            {"id": "root", "path": "/d.raw", "read_only": true, "serial": "abc", "direct": true, "direct_path": "fd:9",
             "engine": "threads", "queues": 2,
             "limits": {"bytes_per_second": 1000, "bytes_burst": 100, "operations_per_second": 10, "operations_burst": 1}},
            {"id": "image", "path": "/d.qcow2", "format": "qcow2",
             "backing": [{"path": "/b.qcow2", "format": "qcow2"}, {"path": "/b.raw"}]},
            {"id": "chain", "path": "/e.qcow2", "format": "qcow2", "follow_backing": true, "engine": "io_uring"},
            {"id": "remote", "vhost_user": "disk.sock", "queues": 2},
        ],
        "nets": [{"id": "eth0", "tap": "tap0", "mac": "10:66:6A:00:00:01", "mtu": 1500}],
        "vsock": {"cid": 3, "socket": "vsock.sock"},
        "file_systems": [{"tag": "home", "socket": "home.sock"}],
        "rng": false,
        "pmem": [{"id": "p", "path": "/p"}],
        "balloon": {"target_bytes": 4096, "deflate_on_oom": false, "statistics_interval_s": 5},
        "console": true,
        "console_ports": [{"name": "agent", "socket": "agent.sock"}],
        "smbios": {"serial": "1"},
        "watchdog": {"action": "none"},
        "generation_id": "0e0c1e3c-3b1c-4a55-9f5c-1f2a3b4c5d6e",
        "gdb": {"socket": "gdb.sock", "wait": true},
        "control_socket": "ctl.sock",
        "log": {"format": "json", "level": "debug"},
        "sandbox": {"uid": 1000, "gid": 1000, "seccomp": false},
        "autostart": false,
    })
}

#[test]
fn a_full_document_survives_a_round_trip() {
    let value = full();
    let config = parse(&value).unwrap();
    assert_eq!(config.nets[0].mac.to_string(), "10:66:6a:00:00:01");
    assert_eq!(
        config.log,
        LogConfig {
            format: LogFormat::Json,
            level: LogLevel::Debug
        }
    );
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!(parse(&written).unwrap(), config);
    // Whatever is new is to be here, too.
    let names = |object: &serde_json::Value| {
        object
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&written), names(&value));
    let of_disks = |value: &serde_json::Value| {
        let disks = value["disks"].as_array().unwrap();
        disks.iter().flat_map(names).collect::<BTreeSet<_>>()
    };
    assert_eq!(of_disks(&written), of_disks(&value));
}

#[test]
fn wrong_values_are_refused_with_field_value_and_remedy() {
    let net = |net: serde_json::Value| serde_json::json!([net]);
    let disk = |fields: serde_json::Value| {
        let mut disk = serde_json::json!({"id": "a", "path": "d"});
        disk.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        serde_json::json!([disk])
    };
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
            "/disks",
            disk(serde_json::json!({"format": "vmdk"})),
            "unknown variant `vmdk`",
        ),
        (
            "/disks",
            disk(serde_json::json!({"engine": "aio"})),
            "unknown variant `aio`",
        ),
        (
            "/disks",
            disk(serde_json::json!({"queues": 0})),
            "`disks[0].queues` is 0: use 1 to 32",
        ),
        (
            "/disks",
            disk(serde_json::json!({"queues": 33})),
            "`disks[0].queues` is 33",
        ),
        (
            "/disks",
            disk(serde_json::json!({"direct_path": "fd:9"})),
            "only `direct` disks have this",
        ),
        (
            "/disks",
            disk(serde_json::json!({"direct": true, "direct_path": "/d"})),
            "only as `fd:N`",
        ),
        (
            "/disks",
            disk(serde_json::json!({"follow_backing": true})),
            "only images in the format `qcow2`",
        ),
        (
            "/disks",
            disk(serde_json::json!({"format": "qcow2", "follow_backing": true, "backing": [{"path": "b"}]})),
            "give either `backing`, or `follow_backing`",
        ),
        (
            "/disks",
            disk(serde_json::json!({"format": "qcow2", "backing": [{"path": "b"}, {"path": "c"}]})),
            "`disks[0].backing[0].format` is raw: a raw file stands on nothing",
        ),
        (
            "/disks",
            disk(serde_json::json!({"limits": {"bytes_burst": 5}})),
            "`disks[0].limits.bytes_burst` is 5: set `bytes_per_second`, too",
        ),
        (
            "/disks",
            disk(serde_json::json!({"limits": {"bytes_per_second": 0}})),
            "nonzero",
        ),
        (
            "/disks",
            disk(serde_json::json!({"vhost_user": "d.sock"})),
            "`disks[0].path` is given: a vhost-user disk is described to its back end",
        ),
        (
            "/log",
            serde_json::json!({"format": "xml"}),
            "unknown variant `xml`",
        ),
        (
            "/log",
            serde_json::json!({"level": "loud"}),
            "unknown variant `loud`",
        ),
        ("/log", serde_json::json!({"file": "x"}), "unknown field `file`"),
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
