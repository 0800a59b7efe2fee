//! What a specification may say.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn spec() -> ContainerSpec {
    let mut spec = ContainerSpec::new("c1", "/srv/c1/rootfs", "/srv/c1/console.log", &["/sbin/init"]);
    spec.idmap = Some(IdMap {
        host_base: 1_000_000,
        range: 65_536,
    });
    spec
}

fn refused(change: impl FnOnce(&mut ContainerSpec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    match spec.validate() {
        Err(Error::Spec { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_shortest_document_gets_the_defaults() {
    let text =
        json!({"name": "c1", "hostname": "c1", "rootfs": "/r", "console_log": "/l", "init": ["/sbin/init"]});
    let spec: ContainerSpec = serde_json::from_value(text).unwrap();
    spec.validate().unwrap();
    assert!(spec.seccomp && spec.time_namespace && !spec.nesting && spec.idmap.is_none());
    assert_eq!(
        spec,
        ContainerSpec {
            hostname: "c1".into(),
            ..ContainerSpec::new("c1", "/r", "/l", &["/sbin/init"])
        }
    );
}

#[test]
fn a_document_survives_the_round_trip_and_unknown_fields_are_refused() {
    let mut document = serde_json::to_value(spec()).unwrap();
    assert_eq!(
        serde_json::from_value::<ContainerSpec>(document.clone()).unwrap(),
        spec()
    );
    document["limits"]["memroy_bytes"] = json!(1);
    assert!(serde_json::from_value::<ContainerSpec>(document.clone()).is_err());
    document["limits"] = json!({});
    document["surprise"] = Value::Null;
    assert!(serde_json::from_value::<ContainerSpec>(document).is_err());
}

#[test]
fn fields_that_cannot_be_honoured_are_named() {
    assert_eq!(refused(|s| s.name = "../up".into()), "name");
    assert_eq!(refused(|s| s.name = "a/b".into()), "name");
    assert_eq!(refused(|s| s.name = ".hidden".into()), "name");
    assert_eq!(refused(|s| s.hostname = "x".repeat(65)), "hostname");
    assert_eq!(refused(|s| s.rootfs = "relative".into()), "rootfs");
    assert_eq!(refused(|s| s.rootfs = "/a/../b".into()), "rootfs");
    assert_eq!(refused(|s| s.init.clear()), "init");
    assert_eq!(refused(|s| s.init = vec!["a\0b".into()]), "init");
    assert_eq!(
        refused(|s| drop(s.environment.insert("A=B".into(), String::new()))),
        "environment"
    );
    assert_eq!(
        refused(|s| s.idmap = Some(IdMap {
            host_base: 0,
            range: 65_536
        })),
        "idmap.host_base"
    );
    assert_eq!(
        refused(|s| s.idmap = Some(IdMap {
            host_base: u32::MAX - 9,
            range: 65_536
        })),
        "idmap.host_base"
    );
    assert_eq!(
        refused(|s| s.idmap = Some(IdMap {
            host_base: 1 << 20,
            range: 10
        })),
        "idmap.range"
    );
    assert_eq!(refused(|s| s.user = 70_000), "user");
    assert_eq!(
        refused(|s| s.mounts.push(Mount {
            target: "/".into(),
            source: "/x".into(),
            ..Mount::default()
        })),
        "mounts.target"
    );
    assert_eq!(
        refused(|s| s.mounts.push(Mount {
            target: "/x".into(),
            source: "x".into(),
            ..Mount::default()
        })),
        "mounts.source"
    );
    let ext4 = || Mount {
        target: "/x".into(),
        fstype: Some("ext4".into()),
        ..Mount::default()
    };
    assert_eq!(refused(|s| s.mounts.push(ext4())), "mounts.fstype");
    let device = |target: &str| Device {
        source: "/dev/kvm".into(),
        target: target.into(),
        optional: false,
    };
    assert_eq!(refused(|s| s.devices.push(device("/etc/kvm"))), "devices.target");
    assert_eq!(refused(|s| s.devices.push(device("/dev"))), "devices.target");
    assert_eq!(
        refused(|s| s.limits.memory_bytes = Some(0)),
        "limits.memory_bytes"
    );
    assert_eq!(
        refused(|s| s.limits.cpu_set = Some("0;1".into())),
        "limits.cpu_set"
    );
    assert_eq!(refused(|s| s.limits.pids_max = Some(0)), "limits.pids_max");
    let limit = |kind: &str, soft| Rlimit {
        kind: kind.into(),
        soft,
        hard: 5,
    };
    assert_eq!(refused(|s| s.rlimits.push(limit("nofiles", 1))), "rlimits.kind");
    assert_eq!(refused(|s| s.rlimits.push(limit("nofile", 6))), "rlimits.soft");
    assert_eq!(
        refused(|s| drop(s.sysctls.insert("kernel/../x".into(), "1".into()))),
        "sysctls"
    );
    assert_eq!(refused(|s| s.stop_signal = Some(65)), "stop_signal");
    assert_eq!(
        refused(|s| s.drop_capabilities.push("CAP_FLY".into())),
        "drop_capabilities"
    );
}

#[test]
fn kernel_parameters_are_written_with_dots_or_slashes() {
    assert_eq!(sysctl_path("net.ipv4.ip_forward").unwrap(), "net/ipv4/ip_forward");
    assert_eq!(
        sysctl_path("net/ipv4/conf/eth0.1/forwarding").unwrap(),
        "net/ipv4/conf/eth0.1/forwarding"
    );
    assert_eq!(
        sysctl_path("net.ipv4.conf.eth0/1.forwarding").unwrap(),
        "net/ipv4/conf/eth0.1/forwarding"
    );
}

proptest! {
    #[test]
    fn no_kernel_parameter_leads_out_of_proc_sys(key in "[a-z./\\\\]{0,20}") {
        if let Ok(path) = sysctl_path(&key) {
            prop_assert!(!path.starts_with('/'));
            prop_assert!(path.split('/').all(|part| !part.is_empty() && part != ".." && part != "."));
        }
    }

    #[test]
    fn names_are_one_plain_component(name in "\\PC{0,20}") {
        if check_name(&name).is_ok() {
            let path = std::path::Path::new(&name);
            prop_assert_eq!(path.components().count(), 1);
            prop_assert!(matches!(path.components().next(), Some(Component::Normal(_))));
        }
    }

    #[test]
    fn any_text_is_a_document_or_an_error(text in "\\PC{0,200}") {
        let _ = serde_json::from_str::<ContainerSpec>(&text);
    }
}
