//! Taps and veth pairs against the real kernel, each test in a network namespace of its own.

#[allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use network::{Choice, Error, HwAddr, Reservation, TapSpec};
use support::{Host, Machine, config, eventually, hwaddr, in_namespace, preset, sh, veth};

const PLAIN: &str = "ipv4.address=10.99.1.1/24 ipv6.address=none";
const HEADER: [u8; 12] = [0; 12];

fn tap(name: &str) -> TapSpec {
    TapSpec {
        host_name: name.to_owned(),
        bridge: "vbr0".to_owned(),
        mtu: None,
        multi_queue: false,
        isolated: false,
    }
}

/// Asks who has `target`, as a guest at `sender` would (RFC 826).
fn arp_request(source: HwAddr, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = HEADER.to_vec();
    frame.extend([0xff; 6]);
    frame.extend(source.bytes());
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(source.bytes());
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

/// The hardware address in the answer about `target`, if it has come.
fn arp_answer(tap: &mut File, target: [u8; 4]) -> Option<[u8; 6]> {
    let mut frame = [0; 2048];
    loop {
        let length = match tap.read(&mut frame) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        };
        let ethernet = &frame[HEADER.len()..length];
        if ethernet.get(12..14) == Some(&[0x08, 0x06]) && ethernet.get(28..32) == Some(&target) {
            return ethernet.get(22..28).and_then(|address| address.try_into().ok());
        }
    }
}

#[test]
fn tap_carries_frames_and_goes_with_its_descriptor() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks.ensure_bridge(&config("vbr0", PLAIN)).await.unwrap();
        let machine = Machine::new();
        let mut spec = veth("vg1", "vbr0", &machine, hwaddr(1));
        spec.preset = preset("10.99.1.7/24", "10.99.1.1");
        host.networks.add_veth(&spec).await.unwrap();
        let mut tap: File = host.networks.add_tap(&tap("vt1")).await.unwrap().into();
        assert_eq!(host.networks.ports().await.unwrap(), ["vg1", "vt1"]);
        let state = host.networks.state("vbr0").await.unwrap();
        assert_eq!(state.bridge.unwrap().upper_devices, ["vg1", "vt1"]);

        let question = arp_request(hwaddr(9), [10, 99, 1, 9], [10, 99, 1, 7]);
        let answer = eventually("an answer to ARP", || {
            tap.write_all(&question).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            arp_answer(&mut tap, [10, 99, 1, 7])
        });
        assert_eq!(answer, hwaddr(1).bytes());
        let counters = host.networks.link_counters("vt1").await.unwrap();
        assert!(
            counters.packets_received >= 1 && counters.bytes_received >= 42,
            "{counters:?}"
        );

        drop(tap);
        eventually("the tap is gone", || {
            (!sh("ip -o link show").contains("vt1")).then_some(())
        });
        assert!(matches!(
            host.networks.link_counters("vt1").await,
            Err(Error::NotFound { .. })
        ));
    });
}

#[test]
fn isolated_ports_reach_the_bridge_but_not_each_other() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks.ensure_bridge(&config("vbr0", PLAIN)).await.unwrap();
        let machines = [Machine::new(), Machine::new()];
        for (number, machine) in (1..).zip(&machines) {
            let mut spec = veth(&format!("vg{number}"), "vbr0", machine, hwaddr(number));
            spec.preset = preset(&format!("10.99.1.{}/24", 10 + number), "10.99.1.1");
            spec.isolated = true;
            host.networks.add_veth(&spec).await.unwrap();
        }
        machines[0].sh("busybox ping -c 1 -W 5 10.99.1.1");
        assert!(
            !machines[0]
                .run("busybox ping -c 1 -W 1 10.99.1.12")
                .status
                .success()
        );
    });
}

#[test]
fn veth_arrives_with_name_address_and_mtu() {
    in_namespace(|| async {
        let host = Host::new();
        let both = "ipv4.address=10.99.1.1/24 ipv6.address=fd42:1:2:3::1/64 bridge.mtu=1400";
        host.networks.ensure_bridge(&config("vbr0", both)).await.unwrap();
        let claim = Reservation {
            key: "c1.eth0".to_owned(),
            hostname: "c1".to_owned(),
            hwaddr: hwaddr(1),
            ipv4: Choice::Pick,
            ipv6: Choice::Pick,
        };
        let told = host.networks.reserve("vbr0", &claim).await.unwrap();
        assert_eq!(
            told,
            host.networks.reserve("vbr0", &claim).await.unwrap(),
            "the choice is kept"
        );
        let (ipv4, ipv6) = (told.ipv4.unwrap(), told.ipv6.unwrap());
        assert_eq!(ipv6.to_string(), "fd42:1:2:3:1266:6aff:fe00:1/64");

        let machine = Machine::new();
        let mut spec = veth("vg1", "vbr0", &machine, hwaddr(1));
        spec.preset = Some(network::Preset {
            addresses: vec![ipv4.into(), ipv6.into()],
            gateway4: told.gateway4,
            gateway6: told.gateway6,
        });
        host.networks.add_veth(&spec).await.unwrap();
        let link = machine.sh("ip -o link show eth0");
        assert!(
            link.contains("mtu 1400") && link.contains("10:66:6a:00:00:01"),
            "{link}"
        );
        machine.sh("busybox ping -c 1 -W 5 10.99.1.1");
        machine.sh("busybox ping -6 -c 1 -W 5 fd42:1:2:3::1");
        machine.sh("ip -6 route show default | grep -q 'via fd42:1:2:3::1'");
        let found = eventually("c1 resolves without DHCP", || {
            machine.resolve("c1.incus", "10.99.1.1")
        });
        assert_eq!(found, ipv4.addr().to_string());

        // Stopping a container may take its end away before anyone asks for it.
        drop(machine);
        eventually("the pair is gone", || {
            (!sh("ip -o link show").contains("vg1")).then_some(())
        });
        host.networks.remove_link("vg1").await.unwrap();
    });
}

#[test]
fn failed_pair_is_taken_back() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks.ensure_bridge(&config("vbr0", PLAIN)).await.unwrap();
        let machine = Machine::new();
        let mut spec = veth("vg1", "vbr0", &machine, hwaddr(1));
        spec.preset = preset("10.99.1.7/24", "10.98.0.1");
        let error = host.networks.add_veth(&spec).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot route by 10.98.0.1 on link eth0");
        assert_eq!(host.networks.ports().await.unwrap(), Vec::<String>::new());
        assert!(!machine.sh("ip -o link show").contains("eth0"));

        spec.preset = None;
        host.networks.add_veth(&spec).await.unwrap();
        let again = host.networks.add_veth(&spec).await.unwrap_err();
        assert!(
            matches!(&again, Error::NameTaken { name, .. } if name == "vg1"),
            "{again}"
        );
        host.networks.remove_link("vg1").await.unwrap();
        host.networks.remove_link("vg1").await.unwrap();
        host.networks.add_veth(&spec).await.unwrap();
    });
}

#[test]
fn bad_names_and_missing_targets_are_refused() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks.ensure_bridge(&config("vbr0", PLAIN)).await.unwrap();
        for name in [
            "",
            "x",
            "a/b",
            "a b",
            "-rf",
            "..",
            "sixteen-letters-",
            "tab\t",
            "új0",
            "all",
            "%d",
            "x;y",
        ] {
            let refused =
                |error: &Error| matches!(error, Error::InvalidName { name: told, .. } if told == name);
            assert!(
                refused(&host.networks.add_tap(&tap(name)).await.unwrap_err()),
                "{name:?}"
            );
            assert!(
                refused(&host.networks.remove_link(name).await.unwrap_err()),
                "{name:?}"
            );
            assert!(
                refused(&host.networks.remove_bridge(name).await.unwrap_err()),
                "{name:?}"
            );
            let machine = Machine::new();
            let spec = network::VethSpec {
                guest_name: name.to_owned(),
                ..veth("vg1", "vbr0", &machine, hwaddr(1))
            };
            assert!(
                refused(&host.networks.add_veth(&spec).await.unwrap_err()),
                "{name:?}"
            );
        }
        let no_bridge = TapSpec {
            bridge: "vbr9".to_owned(),
            ..tap("vt1")
        };
        assert!(
            matches!(host.networks.add_tap(&no_bridge).await, Err(Error::NotFound { name }) if name == "vbr9")
        );
        let ended = {
            let machine = Machine::new();
            veth("vg1", "vbr0", &machine, hwaddr(1))
        };
        assert!(matches!(
            host.networks.add_veth(&ended).await,
            Err(Error::NoNamespace { .. })
        ));
    });
}
