use super::*;

#[test]
fn the_own_namespace_has_a_loopback_with_its_address() {
    let found = interfaces(i32::try_from(std::process::id()).unwrap());
    let lo = &found["lo"];
    assert_eq!((lo.kind.as_str(), lo.hwaddr.as_str()), ("loopback", ""));
    assert!(lo.mtu > 0);
    if lo.state == "up" {
        let local = lo
            .addresses
            .iter()
            .find(|address| address.family == "inet")
            .unwrap();
        assert_eq!(
            (
                local.address.as_str(),
                local.netmask.as_str(),
                local.scope.as_str()
            ),
            ("127.0.0.1", "8", "local")
        );
    }
}

#[test]
fn a_process_that_is_gone_has_no_interfaces() {
    assert!(interfaces(i32::MAX).is_empty());
}

#[test]
fn counters_are_read_from_the_right_columns() {
    let text = "Inter-|   Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth01: 7 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    let counters = find_counters(text, "eth0");
    assert_eq!((counters.bytes_received, counters.packets_received), (1, 2));
    assert_eq!(
        (counters.errors_received, counters.packets_dropped_inbound),
        (3, 4)
    );
    assert_eq!((counters.bytes_sent, counters.packets_sent), (9, 10));
    assert_eq!(
        (counters.errors_sent, counters.packets_dropped_outbound),
        (11, 12)
    );
    assert_eq!(find_counters(text, "eth01").bytes_received, 7);
}
