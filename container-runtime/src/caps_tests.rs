//! Which capabilities a container has.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn names_are_found_in_any_spelling() {
    for name in ["CAP_NET_RAW", "net_raw", "cap_net_raw"] {
        assert_eq!(by_name(name), Some(Cap::NET_RAW));
    }
    assert_eq!(by_name("CAP_CAP_NET_RAW"), None);
    assert_eq!(by_name(""), None);
}

#[test]
fn the_hosts_own_are_never_granted() {
    for privileged in [false, true] {
        let sets = CapabilitySets::system(privileged, &["NET_RAW".to_owned()]).unwrap();
        for cap in [
            Cap::SYS_MODULE,
            Cap::SYS_RAWIO,
            Cap::SYS_TIME,
            Cap::MAC_ADMIN,
            Cap::NET_RAW,
        ] {
            assert!(!sets.bounding.has(cap), "{cap}");
        }
        for cap in [
            Cap::SYS_ADMIN,
            Cap::SYS_BOOT,
            Cap::NET_ADMIN,
            Cap::SETUID,
            Cap::MKNOD,
        ] {
            assert!(sets.permitted.has(cap), "init systems need {cap}");
        }
        assert_eq!(sets.bounding.has(Cap::BPF), !privileged);
        assert!(sets.ambient.is_empty() && sets.inheritable.is_empty());
    }
    assert!(CapabilitySets::system(false, &["FLY".to_owned()]).is_err());
}
