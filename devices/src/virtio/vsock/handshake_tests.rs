use super::*;
use proptest::prelude::*;
use std::os::unix::net::UnixListener;

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..LINE_MAX)) {
        let said = parse_line(&bytes);
        prop_assert_eq!(said == Said::NotYet, !bytes.contains(&b'\n'));
    }

    #[test]
    fn every_port_is_understood(port: u32) {
        prop_assert_eq!(parse_line(format!("CONNECT {port}\nrest").as_bytes()), Said::Port(port));
    }
}

#[test]
fn listeners_behind_long_paths_are_reached() {
    let directory = tempfile::tempdir().unwrap();
    let deep = directory.path().join("d".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    let listener = UnixListener::bind(directory.path().join("short")).unwrap();
    std::fs::rename(directory.path().join("short"), deep.join("v.sock_80")).unwrap();
    let path = port_path(&deep.join("v.sock"), 80);
    assert!(path.as_os_str().len() > 108);
    let _stream = connect(&path).unwrap();
    listener.accept().unwrap();
    assert!(connect(&deep.join("nobody")).is_err());
}
