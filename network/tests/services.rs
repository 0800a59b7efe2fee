//! What dnsmasq serves on a network in its various modes, each test in a network namespace of its own.

#[allow(clippy::unwrap_used, clippy::expect_used)]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use network::{Choice, Networks, Reservation};
use support::{Host, Machine, config, eventually, hwaddr, in_namespace, sh, veth};

fn named(name: &str, last: u8) -> Reservation {
    Reservation {
        key: format!("{name}.eth0"),
        hostname: name.to_owned(),
        hwaddr: hwaddr(last),
        ipv4: Choice::Dynamic,
        ipv6: Choice::Dynamic,
    }
}

#[test]
fn guest_configures_ipv6_by_router_advertisement() {
    in_namespace(|| async {
        let host = Host::new();
        let wanted = config(
            "vbr0",
            "ipv4.address=none ipv6.address=fd42:7::1/64 ipv6.nat=true",
        );
        host.networks.ensure_bridge(&wanted).await.unwrap();
        let machine = Machine::new();
        host.networks
            .add_veth(&veth("vg1", "vbr0", &machine, hwaddr(1)))
            .await
            .unwrap();
        eventually("an address by advertisement", || {
            let addresses = machine.sh("ip -6 -o addr show dev eth0 scope global");
            addresses.contains("fd42:7::1266:6aff:fe00:1/64").then_some(())
        });
        let routes = machine.sh("ip -6 route show default");
        assert!(
            routes.contains("via fe80::") && routes.contains("proto ra"),
            "{routes}"
        );
        eventually("the router answers", || {
            machine
                .run("busybox ping -6 -c 1 -W 2 fd42:7::1")
                .status
                .success()
                .then_some(())
        });
    });
}

#[test]
fn dhcp_stays_in_its_ranges_and_tells_the_given_router() {
    in_namespace(|| async {
        let host = Host::new();
        let wanted = config(
            "vbr0",
            "ipv4.address=10.99.1.1/24 ipv4.dhcp.ranges=10.99.1.200-10.99.1.201 ipv4.dhcp.gateway=10.99.1.254 \
             ipv4.dhcp.expiry=10m dns.domain=lab.example ipv6.address=none",
        );
        host.networks.ensure_bridge(&wanted).await.unwrap();
        let machine = Machine::new();
        host.networks
            .add_veth(&veth("vg1", "vbr0", &machine, hwaddr(1)))
            .await
            .unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let lease = machine.dhcp(scratch.path());
        assert!(lease.starts_with("10.99.1.20"), "{lease}");
        assert!(lease.ends_with(" 10.99.1.254 10.99.1.1 lab.example"), "{lease}");
        let picked = Reservation {
            ipv4: Choice::Pick,
            ..named("c2", 2)
        };
        let told = host.networks.reserve("vbr0", &picked).await.unwrap();
        let leased = lease.split(' ').next().unwrap();
        let address = told.ipv4.unwrap().addr().to_string();
        assert!(
            address.starts_with("10.99.1.20") && address != leased,
            "{address}"
        );
        assert_eq!(told.gateway4.unwrap().to_string(), "10.99.1.254");
    });
}

#[test]
fn network_without_dns_has_none_and_one_without_addresses_has_no_server() {
    in_namespace(|| async {
        let host = Host::new();
        let quiet = config("vbr0", "ipv4.address=10.99.1.1/24 dns.mode=none");
        host.networks.ensure_bridge(&quiet).await.unwrap();
        let machine = Machine::new();
        host.networks
            .add_veth(&veth("vg1", "vbr0", &machine, hwaddr(1)))
            .await
            .unwrap();
        let scratch = tempfile::tempdir().unwrap();
        machine.dhcp(scratch.path());
        assert!(machine.resolve("_gateway.incus", "10.99.1.1").is_none());
        let told = host.networks.reserve("vbr0", &named("c1", 1)).await.unwrap();
        assert!(told.dns.is_empty() && told.search.is_empty());

        host.networks
            .ensure_bridge(&config("vbr0", "ipv4.address=none ipv6.address=none"))
            .await
            .unwrap();
        assert!(host.servers("vbr0").is_empty());
        assert_eq!(host.networks.state("vbr0").await.unwrap().addresses, []);
    });
}

#[test]
fn names_that_clients_ask_for_count_in_dynamic_mode_only() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks
            .ensure_bridge(&config("vbr0", "ipv4.address=10.99.1.1/24 dns.mode=dynamic"))
            .await
            .unwrap();
        host.networks
            .ensure_bridge(&config("vbr1", "ipv4.address=10.99.2.1/24"))
            .await
            .unwrap();
        for (bridge, router, is_known) in [("vbr0", "10.99.1.1", true), ("vbr1", "10.99.2.1", false)] {
            let machine = Machine::new();
            host.networks
                .add_veth(&veth("vg1", bridge, &machine, hwaddr(1)))
                .await
                .unwrap();
            machine.sh("busybox udhcpc -f -n -q -t 10 -T 1 -i eth0 -x hostname:self -s /bin/true");
            machine.sh(&format!(
                "ip addr add {}9/24 dev eth0",
                router.strip_suffix('1').unwrap()
            ));
            assert_eq!(
                machine.resolve("self.incus", router).is_some(),
                is_known,
                "{bridge}"
            );
            host.networks.remove_link("vg1").await.unwrap();
        }
    });
}

#[test]
fn released_instance_frees_its_lease_for_the_next_of_its_name() {
    in_namespace(|| async {
        let host = Host::new();
        // Room for one.
        let narrow = config(
            "vbr0",
            "ipv4.address=10.99.1.1/24 ipv4.dhcp.ranges=10.99.1.7-10.99.1.7",
        );
        host.networks.ensure_bridge(&narrow).await.unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for number in 1..=3 {
            let machine = Machine::new();
            host.networks.reserve("vbr0", &named("c1", number)).await.unwrap();
            host.networks
                .add_veth(&veth("vg1", "vbr0", &machine, hwaddr(number)))
                .await
                .unwrap();
            let lease = machine.dhcp(scratch.path());
            assert!(lease.starts_with("10.99.1.7 "), "{lease}");
            assert_eq!(
                machine.resolve("c1.incus", "10.99.1.1").as_deref(),
                Some("10.99.1.7")
            );
            host.networks.remove_link("vg1").await.unwrap();
            host.networks.release("vbr0", "c1.eth0").await.unwrap();
            eventually("the lease is free", || {
                fs::read_to_string(host.dir.join("vbr0/dnsmasq.leases"))
                    .unwrap()
                    .is_empty()
                    .then_some(())
            });
        }
    });
}

#[test]
fn server_gives_up_root_where_it_can() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks
            .ensure_bridge(&config("vbr0", "ipv4.address=10.99.1.1/24"))
            .await
            .unwrap();
        let owner = |pid: u32| fs::metadata(format!("/proc/{pid}")).unwrap().uid();
        assert_ne!(owner(host.servers("vbr0")[0]), 0);

        // No other user may pass here, so only root can read what it serves.
        let closed = tempfile::tempdir().unwrap();
        fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let networks = Networks::new(closed.path().join("networks")).unwrap();
        networks
            .ensure_bridge(&config("vbr1", "ipv4.address=10.99.2.1/24"))
            .await
            .unwrap();
        let pid = fs::read_to_string(closed.path().join("networks/vbr1/dnsmasq.pid")).unwrap();
        let user = owner(pid.trim().parse().unwrap());
        networks.remove_bridge("vbr1").await.unwrap();
        assert_eq!(user, 0);
    });
}

#[test]
fn lease_file_full_of_lies_does_no_harm() {
    in_namespace(|| async {
        let host = Host::new();
        host.networks
            .ensure_bridge(&config("vbr0", "ipv4.address=10.99.1.1/24"))
            .await
            .unwrap();
        let lies = "1 10:66:6a:00:00:01 10.99.1.9 $(reboot) *\n\u{0}\u{1b}[2J\n9 9 9 9 9\n\
                    1 10:66:6a:00:00:02 10.99.1.1 router *\n";
        fs::write(host.dir.join("vbr0/dnsmasq.leases"), lies).unwrap();
        let leases = host.networks.leases("vbr0").await.unwrap();
        let shown: Vec<_> = leases
            .iter()
            .map(|lease| format!("{} {}", lease.hostname, lease.address))
            .collect();
        assert_eq!(shown, ["vbr0.gw 10.99.1.1", " 10.99.1.9"]);
        sh(&format!("kill -9 {}", host.servers("vbr0")[0]));
    });
}
