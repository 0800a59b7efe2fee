use proptest::prelude::*;

use super::*;

#[test]
fn leases_of_both_families_are_read() {
    let text = "1795458000 10:66:6a:a1:4c:34 10.133.8.223 c2 ff:6a:a1:4c:34:00:01\n\
                1795458001 10:66:6a:a1:4c:35 10.133.8.224 * *\n\
                duid 00:01:00:01:32:00:00:00:10:66:6a:29:57:72\n\
                1795458002 7 fd42::5 c3 00:01:00:01:32:00:00:00:10:66:6a:00:00:05\n\
                1795458003 8 fd42::6 c4 00:03:00:01:10:66:6a:00:00:06\n\
                0 9 fd42::7 * 00:02:00:00:ab:11:01\n";
    let leases = parse(text);
    let shown: Vec<_> = leases
        .iter()
        .map(|lease| {
            let hwaddr = lease.hwaddr.map(|hwaddr| hwaddr.to_string()).unwrap_or_default();
            (
                lease.address.to_string(),
                hwaddr,
                lease.hostname.clone().unwrap_or_default(),
            )
        })
        .collect();
    let expected = [
        ("10.133.8.223", "10:66:6a:a1:4c:34", "c2"),
        ("10.133.8.224", "10:66:6a:a1:4c:35", ""),
        ("fd42::5", "10:66:6a:00:00:05", "c3"),
        ("fd42::6", "10:66:6a:00:00:06", "c4"),
        ("fd42::7", "", ""),
    ];
    assert_eq!(
        shown,
        expected.map(|(address, hwaddr, name)| (address.into(), hwaddr.into(), name.into()))
    );
}

#[test]
fn hostile_lines_are_passed_over() {
    for line in [
        "",
        "x",
        "1795458000",
        "1795458000 10:66:6a:a1:4c:34",
        "-1 10:66:6a:a1:4c:34 10.0.0.1 c *",
        "99999999999999999999999 10:66:6a:a1:4c:34 10.0.0.1 c *",
        "1795458000 ff:ff:ff:ff:ff:ff 10.0.0.1 c *",
        "1795458000 10:66:6a:a1:4c 10.0.0.1 c *",
        "1795458000 10:66:6a:a1:4c:34 10.0.0.999 c *",
    ] {
        assert_eq!(parse(line), [], "{line:?}");
    }
    let script = parse("1 10:66:6a:a1:4c:34 10.0.0.1 <script>alert(1)</script> *");
    assert_eq!(script[0].hostname, None);
}

#[test]
fn file_without_end_is_read_to_the_limit_only() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 40).unwrap();
    assert_eq!(read(file.path()).unwrap(), []);
    assert_eq!(read(Path::new("/nonexistent/leases")).unwrap(), []);
}

proptest! {
    #[test]
    fn any_content_is_survived(text in "(\\PC|[ \n0-9a-f:*.]){0,300}") {
        for lease in parse(&text) {
            if let Some(name) = lease.hostname {
                prop_assert!(check_host_name(&name).is_ok());
            }
        }
    }

    #[test]
    fn written_leases_are_read_back(
        end in any::<u64>(),
        tail in any::<[u8; 5]>(),
        ip in any::<u32>(),
        name in "[a-z][a-z0-9]{0,20}",
    ) {
        let [a, b, c, d, e] = tail;
        let hwaddr = HwAddr::from_bytes([2, a, b, c, d, e]).unwrap();
        let address = std::net::Ipv4Addr::from(ip);
        let given = parse(&format!("{end} {hwaddr} {address} {name} *\n"));
        let expected =
            Given { address: address.into(), hwaddr: Some(hwaddr), hostname: Some(name), client: Vec::new() };
        prop_assert_eq!(given, [expected]);
    }
}
