use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn setting() -> (tempfile::TempDir, Folder, BridgeConfig) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path(), "br0");
    folder.create().unwrap();
    let keys = [("ipv4.address", "10.0.0.1/29"), ("ipv6.address", "fd42::1/64")];
    let keys: BTreeMap<_, _> = keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let config = BridgeConfig::from_keys("br0", &keys).unwrap();
    (dir, folder, config)
}

fn wanted(number: u8) -> Reservation {
    Reservation {
        key: format!("c{number}.eth0"),
        hostname: format!("c{number}"),
        hwaddr: HwAddr::from_bytes([2, 0, 0, 0, 0, number]).unwrap(),
        ipv4: Choice::Pick,
        ipv6: Choice::Pick,
    }
}

#[test]
fn every_free_address_is_picked_once_and_then_none() {
    let (_dir, folder, config) = setting();
    let leased = Given {
        address: "10.0.0.4".parse().unwrap(),
        hwaddr: None,
        hostname: None,
        client: Vec::new(),
    };
    let picked: HashSet<_> = (1..=4)
        .map(|number| {
            reserve(&folder, &config, &wanted(number), std::slice::from_ref(&leased))
                .unwrap()
                .0
                .ipv4
                .unwrap()
        })
        .collect();
    let expected = ["10.0.0.2", "10.0.0.3", "10.0.0.5", "10.0.0.6"].map(|address| address.parse().unwrap());
    assert_eq!(picked, HashSet::from(expected));
    let error = reserve(&folder, &config, &wanted(5), std::slice::from_ref(&leased)).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"no free IPv4 address was found for network "br0""#
    );
    assert!(release(&folder, "c2.eth0").unwrap());
    assert!(!release(&folder, "c2.eth0").unwrap());
    reserve(&folder, &config, &wanted(5), &[leased]).unwrap();
}

#[test]
fn names_follow_the_record_after_a_crash() {
    let (_dir, folder, config) = setting();
    let (entry, must_forget) = reserve(&folder, &config, &wanted(1), &[]).unwrap();
    assert!(!must_forget);
    // Killed before the names were written, and while another reservation was released.
    fs::remove_file(folder.names().join("c1.eth0")).unwrap();
    fs::write(folder.names().join("c9.eth0"), "10.0.0.5 c9\n").unwrap();
    fs::write(folder.hosts().join("junk"), "not a reservation").unwrap();
    fs::write(folder.hosts().join(".c1.eth0.new"), "half").unwrap();
    assert!(repair(&folder).unwrap());
    let names = fs::read_to_string(folder.names().join("c1.eth0")).unwrap();
    assert_eq!(
        names,
        format!("{} c1\n{} c1\n", entry.ipv4.unwrap(), entry.ipv6.unwrap())
    );
    assert_eq!(files::names(&folder.names()).unwrap(), ["c1.eth0"]);
    assert_eq!(all(&folder).unwrap(), [entry]);
}

#[test]
fn changed_reservation_has_dnsmasq_forget_the_old_one() {
    let (_dir, folder, config) = setting();
    reserve(&folder, &config, &wanted(1), &[]).unwrap();
    assert!(!reserve(&folder, &config, &wanted(1), &[]).unwrap().1);
    let renamed = Reservation {
        hostname: "d1".to_owned(),
        ..wanted(1)
    };
    assert!(reserve(&folder, &config, &renamed, &[]).unwrap().1);
}

#[test]
fn keys_and_names_that_are_no_plain_words_are_refused() {
    let (_dir, folder, config) = setting();
    for key in ["", "../x", ".x", "a/b", "a\nb", "a~"] {
        let bad = Reservation {
            key: key.to_owned(),
            ..wanted(1)
        };
        assert!(reserve(&folder, &config, &bad, &[]).is_err(), "{key:?}");
        assert!(release(&folder, key).is_err(), "{key:?}");
    }
    for name in ["", "a.b", "a,b", "-a", "a\n10.0.0.1 evil", "ä"] {
        let bad = Reservation {
            hostname: name.to_owned(),
            ..wanted(1)
        };
        assert!(reserve(&folder, &config, &bad, &[]).is_err(), "{name:?}");
    }
}

proptest! {
    #[test]
    fn lines_are_read_back(
        tail in any::<[u8; 5]>(),
        ipv4 in any::<Option<u32>>(),
        ipv6 in any::<Option<u128>>(),
        name in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
    ) {
        let [a, b, c, d, e] = tail;
        let entry = Entry {
            key: "k".to_owned(),
            hwaddr: HwAddr::from_bytes([2, a, b, c, d, e]).unwrap(),
            ipv4: ipv4.map(Ipv4Addr::from),
            ipv6: ipv6.map(Ipv6Addr::from),
            hostname: name,
        };
        prop_assert_eq!(Entry::parse("k", &entry.line()), Some(entry));
    }

    #[test]
    fn any_line_is_survived(text in "\\PC{0,200}") {
        let _ = Entry::parse("k", &text);
    }
}
