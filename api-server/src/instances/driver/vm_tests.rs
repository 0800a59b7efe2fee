use std::collections::BTreeMap;

use api::{InstanceType, Timestamp};
use network::Reserved;

use super::*;
use crate::instances::devices::{Nic, NicParent};
use crate::instances::record::{InstanceRecord, Phase};

fn plan(folder: &Path, config: &[(&str, &str)]) -> StartPlan {
    let record = InstanceRecord {
        name: "v1".into(),
        project: "default".into(),
        kind: InstanceType::VirtualMachine,
        architecture: "x86_64".into(),
        config: BTreeMap::new(),
        devices: BTreeMap::new(),
        profiles: Vec::new(),
        ephemeral: false,
        description: String::new(),
        created_at: Timestamp::now(),
        last_used_at: Timestamp::unix_epoch(),
        pool: "default".into(),
        phase: Phase::Ready,
    };
    let config = config
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    StartPlan {
        record,
        config: Expanded {
            config,
            ..Expanded::default()
        },
        run_dir: folder.join("run"),
        log_dir: folder.join("logs"),
        root: folder.join("root.raw"),
        root_read_only: false,
        disks: Vec::new(),
        ports: vec![port()],
        ids: Some((1_000_000, 65_536)),
        server_kernel: None,
    }
}

fn port() -> Port {
    Port {
        nic: Nic {
            device: "eth0".into(),
            parent: NicParent::Network("br0".into()),
            name: "eth0".into(),
            hwaddr: None,
            ipv4: None,
            ipv6: None,
            mtu: None,
            host_name: None,
            isolated: false,
        },
        bridge: "br0".into(),
        host_name: "tap01".into(),
        hwaddr: "10:66:6a:00:00:01".parse().unwrap(),
        reserved: Some(Reserved {
            ipv4: Some("10.1.2.3/24".parse().unwrap()),
            ipv6: None,
            gateway4: Some("10.1.2.1".parse().unwrap()),
            gateway6: Some("fd42::1".parse().unwrap()),
            dns: vec!["10.1.2.1".parse().unwrap()],
            search: vec!["incus".into()],
            mtu: 1500,
        }),
        tap: None,
    }
}

#[test]
fn the_guest_is_told_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = guest_config(&plan(folder.path(), &[("environment.A", "b")]));
    assert_eq!((config.hostname.as_str(), &config.init), ("v1", &InitMode::Image));
    assert_eq!(config.environment["A"], "b");
    assert!(config.root.grow);
    let nic = &config.nics[0];
    assert_eq!(nic.addresses[0].to_string(), "10.1.2.3/24");
    assert_eq!(nic.gateway4, Some("10.1.2.1".parse().unwrap()));
    assert_eq!(nic.gateway6, None, "no route without an address");
    let config = guest_config(&plan(folder.path(), &[("virga.boot.init", "agent")]));
    assert_eq!(config.init, InitMode::None);
}

#[test]
fn the_kernel_is_the_instances_or_the_servers_or_named_in_the_refusal() {
    let folder = tempfile::tempdir().unwrap();
    let driver = VmDriver::new(StatePaths::new(folder.path()));
    let own = folder.path().join("own");
    let server = folder.path().join("server");
    std::fs::write(&server, "").unwrap();
    std::fs::write(&own, "").unwrap();
    let mut with_own = plan(folder.path(), &[("virga.boot.kernel", own.to_str().unwrap())]);
    with_own.server_kernel = Some(server.clone());
    assert_eq!(driver.kernel(&with_own).unwrap(), own);
    with_own.config = Expanded::default();
    assert_eq!(driver.kernel(&with_own).unwrap(), server);
    with_own.server_kernel = Some(folder.path().join("missing"));
    let error = driver.kernel(&with_own).unwrap_err();
    assert!(
        error.message.contains("missing") && error.message.contains("virga.kernel"),
        "{error}"
    );
}

#[test]
fn a_vsock_that_refuses_is_no_agent() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    assert_eq!(connect_port(&mut ours, 1024), None);

    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut theirs, b"OK 1073741824\nX").unwrap();
    assert_eq!(connect_port(&mut ours, 1024), Some(()));
    let mut next = [0];
    std::io::Read::read_exact(&mut ours, &mut next).unwrap();
    assert_eq!(&next, b"X", "what follows the answer is left for whoever asked");
}
