//! Managed bridges against the real kernel, nft and dnsmasq, each test in a network namespace of its own.

#[allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use network::{Choice, Error, LeaseKind, Reservation};
use support::{Host, Machine, config, eventually, hwaddr, in_namespace, keys, preset, sh, veth};

const PLAIN: &str = "ipv4.address=10.99.1.1/24 ipv4.nat=true ipv6.address=none";

fn reservation(name: &str, last: u8) -> Reservation {
    Reservation {
        key: format!("{name}.eth0"),
        hostname: name.to_owned(),
        hwaddr: hwaddr(last),
        ipv4: Choice::Dynamic,
        ipv6: Choice::Dynamic,
    }
}

#[test]
fn bridge_shows_the_state_that_the_api_shows() {
    in_namespace(|| async {
        let host = Host::new();
        let wanted = config(
            "br77",
            "ipv4.address=10.133.77.1/24 ipv6.address=none bridge.hwaddr=10:66:6a:29:57:72",
        );
        host.networks.ensure_bridge(&wanted).await.unwrap();
        let state = serde_json::to_value(host.networks.state("br77").await.unwrap()).unwrap();
        let mut recorded = serde_json::json!({
            "addresses": [{"family": "inet", "address": "10.133.77.1", "netmask": "24", "scope": "global"}],
            "counters": {"bytes_received": 0, "bytes_sent": 0, "packets_received": 0, "packets_sent": 0},
            "hwaddr": "10:66:6a:29:57:72", "mtu": 1500, "state": "up", "type": "broadcast", "bond": null,
            "bridge": {"id": "8000.10666a295772", "stp": false, "forward_delay": 1500, "vlan_default": 0,
                       "vlan_filtering": false, "upper_devices": []},
            "vlan": null, "ovn": null,
        });
        // The kernel announces the bridge to nobody; that is counted as sent.
        recorded["counters"] = state["counters"].clone();
        assert_eq!(state, recorded);
        assert!(matches!(host.networks.state("br78").await, Err(Error::NotFound { name }) if name == "br78"));
    });
}

#[test]
fn client_gets_a_lease_and_resolves_names() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks.ensure_bridge(&config("vbr0", PLAIN)).await.unwrap();
        host.networks
            .reserve("vbr0", &reservation("c1", 1))
            .await
            .unwrap();
        let fixed = Reservation {
            ipv4: Choice::Fixed("10.99.1.50".parse().unwrap()),
            ..reservation("c2", 2)
        };
        let told = host.networks.reserve("vbr0", &fixed).await.unwrap();
        assert_eq!(told.ipv4.unwrap().to_string(), "10.99.1.50/24");
        assert_eq!(told.gateway4.unwrap().to_string(), "10.99.1.1");
        assert_eq!(told.search, ["incus"]);

        let (one, two) = (Machine::new(), Machine::new());
        host.networks
            .add_veth(&veth("vg1", "vbr0", &one, hwaddr(1)))
            .await
            .unwrap();
        host.networks
            .add_veth(&veth("vg2", "vbr0", &two, hwaddr(2)))
            .await
            .unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let first = one.dhcp(scratch.path());
        assert!(first.starts_with("10.99.1."), "{first}");
        assert!(first.ends_with(" 10.99.1.1 10.99.1.1 incus"), "{first}");
        assert_eq!(two.dhcp(scratch.path()), "10.99.1.50 10.99.1.1 10.99.1.1 incus");

        let address = first.split(' ').next().unwrap();
        for (name, expected) in [
            ("c1", address),
            ("c1.incus", address),
            ("c2", "10.99.1.50"),
            ("c2.incus", "10.99.1.50"),
        ] {
            let found = eventually(name, || two.resolve(name, "10.99.1.1"));
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(two.resolve("c3.incus", "10.99.1.1"), None);
        assert_eq!(
            two.resolve("_gateway.incus", "10.99.1.1").as_deref(),
            Some("10.99.1.1")
        );

        let mut leases = host.networks.leases("vbr0").await.unwrap();
        leases.sort_by_key(|lease| lease.hostname.clone());
        let shown: Vec<_> = leases
            .iter()
            .map(|lease| (lease.hostname.as_str(), lease.kind))
            .collect();
        let expected = [
            ("c1", LeaseKind::Dynamic),
            ("c2", LeaseKind::Static),
            ("vbr0.gw", LeaseKind::Gateway),
        ];
        assert_eq!(shown, expected);
        assert_eq!(leases[0].hwaddr, hwaddr(1).to_string());
        assert_eq!(leases[0].address.to_string(), address);

        // A name that was given up is forgotten.
        host.networks.release("vbr0", "c2.eth0").await.unwrap();
        eventually("c2 is forgotten", || {
            two.resolve("c2.incus", "10.99.1.1").is_none().then_some(())
        });
        host.networks.release("vbr0", "c2.eth0").await.unwrap();
    });
}

#[test]
fn instances_leave_under_the_address_of_the_host() {
    in_namespace(|| async {
        let host = Host::new();
        let outside = Machine::new();
        sh(&format!(
            "ip link add up0 type veth peer name eth0 netns {}",
            outside.pid()
        ));
        sh("ip addr add 192.0.2.1/24 dev up0; ip link set up0 up");
        outside.sh("ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up");
        let server = outside.inside(|| {
            let listener = TcpListener::bind("192.0.2.2:7000").unwrap();
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            peer.ip().to_string()
        });

        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");
        host.networks.ensure_bridge(&config("vbr0", PLAIN)).await.unwrap();
        let machine = Machine::new();
        let mut spec = veth("vg1", "vbr0", &machine, hwaddr(1));
        spec.preset = preset("10.99.1.7/24", "10.99.1.1");
        host.networks.add_veth(&spec).await.unwrap();
        let client = machine.inside(|| {
            let address = "192.0.2.2:7000".parse().unwrap();
            let mut stream = eventually("the server listens", || {
                TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()
            });
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        assert_eq!(client.join().unwrap(), "hello");
        assert_eq!(
            server.join().unwrap(),
            "192.0.2.1",
            "the outside sees the host, not the instance"
        );

        host.networks.remove_link("vg1").await.unwrap();
        host.networks.remove_bridge("vbr0").await.unwrap();
        assert_eq!(
            sh("cat /proc/sys/net/ipv4/ip_forward").trim(),
            "0",
            "forwarding is put back"
        );
        host.assert_empty();
    });
}

#[test]
fn removed_network_leaves_nothing_behind() {
    in_namespace(|| async {
        let host = Host::new();
        let both = "ipv4.address=10.99.1.1/24 ipv4.nat=true ipv6.address=fd42:1:2:3::1/64 ipv6.nat=true";
        let forwarding = "/proc/sys/net/ipv6/conf/all/forwarding";
        host.networks.ensure_bridge(&config("vbr0", both)).await.unwrap();
        assert_eq!(sh(&format!("cat {forwarding}")).trim(), "1");
        assert_eq!(host.servers("vbr0").len(), 1);
        let rules = sh("nft list ruleset");
        assert!(
            rules.contains("ip saddr 10.99.1.0/24 ip daddr != 10.99.1.0/24 masquerade"),
            "{rules}"
        );
        assert!(
            rules.contains("ip6 saddr fd42:1:2:3::/64 ip6 daddr != fd42:1:2:3::/64 masquerade"),
            "{rules}"
        );
        host.networks.remove_bridge("vbr0").await.unwrap();
        host.assert_empty();
        assert_eq!(sh(&format!("cat {forwarding}")).trim(), "0");
        host.networks.remove_bridge("vbr0").await.unwrap();
    });
}

#[test]
fn next_daemon_adopts_what_runs_and_replaces_what_changed() {
    in_namespace(|| async {
        let host = Host::new();
        let plain = config("vbr0", PLAIN);
        host.networks.ensure_bridge(&plain).await.unwrap();
        let first = host.servers("vbr0");
        let index = sh("ip -o link show vbr0");
        let next = host.next_daemon();
        next.ensure_bridge(&plain).await.unwrap();
        assert_eq!(host.servers("vbr0"), first, "the same process serves on");
        assert_eq!(sh("ip -o link show vbr0"), index);

        let changed = config(
            "vbr0",
            "ipv4.address=10.99.2.1/24 ipv6.address=none dns.domain=lab bridge.mtu=1400",
        );
        next.ensure_bridge(&changed).await.unwrap();
        let second = host.servers("vbr0");
        assert_eq!(second.len(), 1);
        assert_ne!(second, first);
        let state = next.state("vbr0").await.unwrap();
        assert_eq!((state.mtu, state.addresses.len()), (1400, 1));
        assert_eq!(state.addresses[0].address, "10.99.2.1");
        assert!(!sh("nft list ruleset").contains("masquerade"));
        assert_eq!(sh("cat /proc/sys/net/ipv4/ip_forward").trim(), "0");

        // A server that died, even if its pid file is gone too, is started again.
        sh(&format!(
            "kill -9 {}; rm {}/vbr0/dnsmasq.pid",
            second[0],
            host.dir.display()
        ));
        eventually("dnsmasq is dead", || {
            host.servers("vbr0").is_empty().then_some(())
        });
        next.ensure_bridge(&changed).await.unwrap();
        assert_eq!(host.servers("vbr0").len(), 1);

        // A server that lost its pid file is found all the same.
        let third = host.servers("vbr0");
        sh(&format!("rm {}/vbr0/dnsmasq.pid", host.dir.display()));
        next.ensure_bridge(&changed).await.unwrap();
        assert_eq!(host.servers("vbr0"), third);

        // A server whose link was taken away and made again cannot serve the new one.
        sh("ip link del vbr0");
        next.ensure_bridge(&changed).await.unwrap();
        assert_eq!(host.servers("vbr0").len(), 1);
        assert_ne!(host.servers("vbr0"), third);
    });
}

#[test]
fn pid_file_of_another_process_kills_nobody() {
    in_namespace(|| async {
        let host = Host::new();
        let bystander = Machine::new();
        host.networks.ensure_bridge(&config("vbr0", PLAIN)).await.unwrap();
        fs::write(host.dir.join("vbr0/dnsmasq.pid"), bystander.pid().to_string()).unwrap();
        host.networks.remove_bridge("vbr0").await.unwrap();
        bystander.sh("true");
        assert!(host.servers("vbr0").is_empty());
    });
}

#[test]
fn foreign_links_are_never_touched() {
    in_namespace(|| async {
        let host = Host::new();
        sh("ip link add br5 type bridge; ip link set br5 alias mine; \
             ip link add vv1 type veth peer name vv2");
        let error = host
            .networks
            .ensure_bridge(&config("br5", PLAIN))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::NameTaken { name, alias } if name == "br5" && alias == "mine"),
            "{error}"
        );
        host.networks.remove_bridge("br5").await.unwrap();
        sh("ip link set vv1 alias virga:00000000");
        assert!(host.networks.remove_link("vv1").await.is_err());
        host.networks.recover(&BTreeSet::new()).await.unwrap();
        let links = sh("ip -o link show");
        assert!(links.contains("br5") && links.contains("vv1"), "{links}");
    });
}

#[test]
fn used_addresses_are_refused() {
    in_namespace(|| async {
        let host = Host::new();
        sh("ip link add d0 type bridge; ip addr add 10.99.1.77/24 dev d0; ip link set d0 up");
        let error = host
            .networks
            .ensure_bridge(&config("vbr0", PLAIN))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "address 10.99.1.1/24 is in use by link d0 (10.99.1.77/24)"
        );
        assert!(error.is_invalid_request());
        let mut wanted = keys(PLAIN);
        assert!(matches!(
            host.networks.complete_keys("vbr0", &mut wanted).await,
            Err(Error::AddressInUse { .. })
        ));
        assert!(!sh("ip -o link show").contains("vbr0"));
        host.networks
            .ensure_bridge(&config("vbr0", "ipv4.address=10.99.3.1/24"))
            .await
            .unwrap();
        let second = host
            .networks
            .ensure_bridge(&config("vbr1", "ipv4.address=10.99.3.9/28"))
            .await;
        assert!(matches!(second, Err(Error::AddressInUse { .. })), "{second:?}");

        let take = |address: &str, last| Reservation {
            ipv4: Choice::Fixed(address.parse().unwrap()),
            ..reservation(&format!("c{last}"), last)
        };
        host.networks
            .reserve("vbr0", &take("10.99.3.5", 1))
            .await
            .unwrap();
        host.networks
            .reserve("vbr0", &take("10.99.3.5", 1))
            .await
            .unwrap();
        let error = host
            .networks
            .reserve("vbr0", &take("10.99.3.5", 2))
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "address 10.99.3.5 is in use by c1 (c1.eth0)");
        for address in ["10.99.4.5", "10.99.3.1", "10.99.3.0", "10.99.3.255"] {
            let error = host
                .networks
                .reserve("vbr0", &take(address, 2))
                .await
                .unwrap_err();
            assert!(
                matches!(&error, Error::AddressRefused { address: told, .. } if told == address),
                "{error}"
            );
        }
        let same_card = Reservation {
            key: "other.eth0".to_owned(),
            ..take("10.99.3.6", 1)
        };
        assert!(matches!(
            host.networks.reserve("vbr0", &same_card).await,
            Err(Error::AddressInUse { .. })
        ));
        assert!(matches!(
            host.networks.reserve("nope", &take("10.99.3.7", 3)).await,
            Err(Error::NotFound { .. })
        ));
    });
}

#[test]
fn automatic_keys_are_completed_with_free_subnets() {
    in_namespace(|| async {
        let host = Host::new();
        let mut keys = keys("user.note=x ipv6.address=none");
        let config = host.networks.complete_keys("vbr0", &mut keys).await.unwrap();
        assert_eq!(keys["ipv4.address"], config.ipv4.unwrap().to_string());
        assert_eq!(keys["ipv4.nat"], "true");
        assert_eq!(keys["ipv6.address"], "none");
        assert!(!keys.contains_key("ipv6.nat"));
        let mut both = support::keys("ipv4.nat=false");
        let config = host.networks.complete_keys("vbr1", &mut both).await.unwrap();
        assert_eq!(both["ipv4.nat"], "false");
        assert!(both["ipv6.address"].starts_with("fd42:") && config.ipv6_nat);
        host.networks.ensure_bridge(&config).await.unwrap();
        assert_eq!(host.networks.state("vbr1").await.unwrap().addresses.len(), 2);
    });
}

#[test]
fn two_networks_live_side_by_side_and_recovery_keeps_the_expected_one() {
    in_namespace(|| async {
        let host = Host::new();
        let (one, two) = (
            config("vbr0", PLAIN),
            config("vbr1", "ipv4.address=10.99.2.1/24 ipv4.nat=true"),
        );
        let (first, second) = tokio::join!(
            host.networks.ensure_bridge(&one),
            host.networks.ensure_bridge(&two)
        );
        first.unwrap();
        second.unwrap();
        // Another daemon on the same host has nothing to say about these.
        let other = Host::new();
        other
            .networks
            .ensure_bridge(&config("obr0", "ipv4.address=10.99.8.1/24"))
            .await
            .unwrap();
        assert_eq!(
            other
                .networks
                .recover(&BTreeSet::from(["obr0".to_owned()]))
                .await
                .unwrap(),
            Default::default()
        );

        let recovered = host
            .next_daemon()
            .recover(&BTreeSet::from(["vbr0".to_owned()]))
            .await
            .unwrap();
        assert_eq!(recovered.bridges, ["vbr1"]);
        assert_eq!(recovered.servers, ["vbr1"]);
        assert_eq!(recovered.folders, ["vbr1"]);
        assert_eq!(recovered.tables.len(), 1);
        assert_eq!(
            sh("cat /proc/sys/net/ipv4/ip_forward").trim(),
            "1",
            "vbr0 still needs it"
        );
        assert_eq!(host.servers("vbr0").len(), 1);
        assert_eq!(other.servers("obr0").len(), 1);
        host.networks.remove_bridge("vbr0").await.unwrap();
        other.networks.remove_bridge("obr0").await.unwrap();
        host.assert_empty();
    });
}
