use proptest::prelude::*;

use super::*;

fn keys(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    BridgeConfig::from_keys("br0", &keys(pairs))
        .unwrap_err()
        .to_string()
}

#[test]
fn keys_mean_what_they_mean_to_incus() {
    let config = BridgeConfig::from_keys(
        "br77",
        &keys(&[
            ("ipv4.address", "10.133.77.1/24"),
            (
                "ipv4.dhcp.ranges",
                "10.133.77.10-10.133.77.20, 10.133.77.30-10.133.77.40",
            ),
            ("ipv6.address", "none"),
            ("bridge.mtu", ""),
            ("user.anything", "at all"),
        ]),
    )
    .unwrap();
    assert_eq!(config.ipv4.unwrap().to_string(), "10.133.77.1/24");
    assert_eq!(config.ipv6, None);
    assert!(!config.ipv4_nat && config.ipv4_dhcp && config.ipv4_firewall);
    assert_eq!(config.ipv4_dhcp_ranges.len(), 2);
    assert_eq!(
        (config.mtu, config.dns_domain.as_str(), config.dns_mode),
        (1500, "incus", DnsMode::Managed)
    );
    assert!(!config.forwards_ipv4());
}

#[test]
fn unknown_keys_are_refused_in_the_words_of_incus() {
    assert_eq!(
        refusal(&[("ipv5.address", "x")]),
        r#"Invalid option for network "br0" option "ipv5.address""#
    );
    assert_eq!(
        refusal(&[("ipv5.address", "")]),
        r#"Invalid option for network "br0" option "ipv5.address""#
    );
    assert!(refusal(&[("raw.dnsmasq", "x")]).contains("does not support this option yet"));
}

#[test]
fn wrong_values_are_named() {
    for (key, value) in [
        ("ipv4.nat", "perhaps"),
        ("ipv4.address", "10.0.0.1"),
        ("ipv4.address", "10.0.0.0/24"),
        ("ipv4.address", "10.0.0.255/24"),
        ("ipv4.address", "127.0.0.1/8"),
        ("ipv4.address", "224.0.0.1/24"),
        ("ipv4.address", "10.0.0.1/31"),
        ("ipv4.address", "fd42::1/64"),
        ("ipv6.address", "10.0.0.1/24"),
        ("ipv6.address", "fe80::1/64"),
        ("ipv6.address", "fd42::/64"),
        ("bridge.mtu", "67"),
        ("bridge.mtu", "big"),
        ("bridge.hwaddr", "01:00:5e:00:00:01"),
        ("bridge.hwaddr", "10:66:6a:1:2:3"),
        ("dns.domain", "a,b"),
        ("dns.domain", "-x.y"),
        ("dns.mode", "magic"),
        ("ipv4.dhcp.expiry", "1h,ignore"),
        ("ipv4.dhcp.expiry", "h"),
        ("ipv4.dhcp.ranges", "10.0.0.9-10.0.0.2"),
        ("ipv4.dhcp.ranges", "10.0.0.9"),
    ] {
        let message = refusal(&[(key, value)]);
        let start = format!("Invalid value for network \"br0\" option {key:?}: ");
        assert!(message.starts_with(&start), "{message}");
        assert!(message.contains(value), "{message} does not name {value}");
    }
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let net = ("ipv4.address", "10.0.0.1/24");
    assert!(refusal(&[net, ("ipv4.dhcp.ranges", "10.0.1.2-10.0.1.9")]).contains("outside 10.0.0.0/24"));
    assert!(refusal(&[net, ("ipv4.dhcp.gateway", "10.0.1.2")]).contains("outside 10.0.0.0/24"));
    assert!(refusal(&[("ipv6.address", "fd42::1/64"), ("bridge.mtu", "1000")]).contains("1280"));
}

proptest! {
    /// Whatever a user writes, nothing reaches a command line that could be read as something else.
    #[test]
    fn accepted_values_are_plain_words(value in "\\PC{0,40}", key in prop::sample::select(vec![
        "dns.domain", "dns.search", "ipv4.dhcp.expiry", "ipv6.dhcp.expiry", "ipv4.dhcp.ranges",
        "bridge.hwaddr",
        "ipv4.address", "ipv6.address", "bridge.mtu", "dns.mode",
    ])) {
        if let Ok(config) = BridgeConfig::from_keys("br0", &keys(&[(key, &value)])) {
            let mut words = vec![config.dns_domain, config.ipv4_dhcp_expiry, config.ipv6_dhcp_expiry];
            words.extend(config.dns_search);
            for word in words {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
                prop_assert!(word.bytes().all(is_plain), "{word:?}");
            }
        }
    }

    #[test]
    fn usable_ipv4_addresses_are_taken(number in 0x0a00_0000_u32..0x0b00_0000, length in 8_u8..=30) {
        let net = Ipv4Net::new(number.into(), length).unwrap();
        let answer = BridgeConfig::from_keys("br0", &keys(&[("ipv4.address", &net.to_string())]));
        let is_host = net.addr() != net.network() && net.addr() != net.broadcast();
        prop_assert_eq!(answer.is_ok(), is_host);
        if let Ok(config) = answer {
            prop_assert_eq!(config.ipv4, Some(net));
            let json = serde_json::to_string(&config).unwrap();
            prop_assert_eq!(serde_json::from_str::<BridgeConfig>(&json).unwrap(), config);
        }
    }
}
