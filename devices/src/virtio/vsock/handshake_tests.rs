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
    let dialer = Dialer::new(&deep.join("v.sock")).unwrap();
    let _stream = dialer.dial(80).unwrap();
    listener.accept().unwrap();
    assert!(dialer.dial(81).is_err());
}

#[test]
fn a_listener_that_does_not_accept_refuses_rather_than_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("v_1")).unwrap();
    // SAFETY: sets the length of the backlog anew; the call has no pointers.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 1) }, 0);
    let dialer = Dialer::new(&directory.path().join("v")).unwrap();
    let dialed: Vec<_> = (0..10).map_while(|_| dialer.dial(1).ok()).collect();
    assert!((1..10).contains(&dialed.len()));
}
