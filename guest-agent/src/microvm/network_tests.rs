use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkVeth;

use super::*;

/// Runs `test` in a network namespace of its own, which ends with its thread.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(test());
    });
    thread.join().unwrap();
}

/// A pair of connected links, with the last bytes of their hardware addresses.
async fn links(first: &str, first_byte: u8, second: &str, second_byte: u8) {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
        .link()
        .add(LinkVeth::new(first, second).build())
        .execute()
        .await
        .unwrap();
    for (name, last) in [(first, first_byte), (second, second_byte)] {
        let link = LinkUnspec::new_with_name(name).address(vec![0x10, 0x66, 0x6a, 0, 0, last]);
        handle.link().set(link.build()).execute().await.unwrap();
    }
}

#[test]
fn interfaces_get_names_addresses_and_routes() {
    in_namespace(|| async {
        // Two interfaces whose names are to be swapped.
        links("eth0", 1, "eth1", 2).await;
        let nics = [
            NicConfig {
                hwaddr: "10:66:6A:00:00:02".into(),
                name: "eth0".into(),
                addresses: vec!["10.9.8.7/24".parse().unwrap(), "fd00:9::7/64".parse().unwrap()],
                gateway4: Some([10, 9, 8, 1].into()),
                gateway6: Some("fd00:9::1".parse().unwrap()),
                mtu: Some(1400),
                ..NicConfig::default()
            },
            NicConfig {
                hwaddr: "10:66:6a:00:00:01".into(),
                name: "eth1".into(),
                addresses: vec!["192.0.2.7/32".parse().unwrap()],
                ..NicConfig::default()
            },
        ];
        configure(&nics).await;
        configure(&nics).await; // again, as nothing may depend on the first time
        let state = crate::client::state({
            let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
            tokio::spawn(crate::server::serve(theirs));
            ours
        })
        .await
        .unwrap()
        .network;
        let eth0 = &state["eth0"];
        assert_eq!(
            (eth0.hwaddr.as_str(), eth0.mtu, eth0.state.as_str()),
            ("10:66:6a:00:00:02", 1400, "up")
        );
        let addresses: Vec<&str> = eth0
            .addresses
            .iter()
            .map(|address| address.address.as_str())
            .collect();
        assert!(
            addresses.contains(&"10.9.8.7") && addresses.contains(&"fd00:9::7"),
            "{addresses:?}"
        );
        assert_eq!(state["eth1"].addresses[0].address, "192.0.2.7");
        assert_eq!(state["lo"].state, "up");
        let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
        assert!(
            routes
                .lines()
                .any(|line| line.starts_with("eth0\t00000000\t0108090A")),
            "{routes}"
        );
        let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
        assert!(routes.contains("fd000009000000000000000000000001"), "{routes}");
    });
}

#[test]
fn a_gateway_outside_the_network_is_reached_on_link() {
    in_namespace(|| async {
        links("x0", 9, "x1", 8).await;
        let nic = NicConfig {
            hwaddr: "10:66:6a:00:00:09".into(),
            addresses: vec!["192.0.2.7/32".parse().unwrap()],
            gateway4: Some([169, 254, 0, 1].into()),
            ..NicConfig::default()
        };
        configure(&[nic]).await;
        let routes = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
        assert!(
            routes
                .lines()
                .any(|line| line.starts_with("x0\t00000000\t0100FEA9")),
            "{routes}"
        );
    });
}

#[test]
fn networks_contain_their_addresses_only() {
    let own: Cidr = "10.1.2.3/20".parse().unwrap();
    assert!(contains(&own, [10, 1, 15, 255].into()) && !contains(&own, [10, 1, 16, 0].into()));
    let all: Cidr = "::1/0".parse().unwrap();
    assert!(contains(&all, "fe80::1".parse().unwrap()) && !contains(&all, [10, 0, 0, 1].into()));
}
