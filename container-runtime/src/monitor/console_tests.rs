//! The console's bounded log.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_log_is_rotated_and_never_grows_beyond_two_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    let mut log = Log::open(&path).unwrap();
    let chunk = [b'x'; 4096];
    for _ in 0..(3 * MAX_LOG / 4096) {
        log.append(&chunk);
    }
    let size = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(size("console.log") <= MAX_LOG + 4096);
    assert!(size("console.log.old") <= MAX_LOG + 4096);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_new_monitor_appends_and_counts_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("console.log");
    Log::open(&path).unwrap().append(b"first ");
    let mut log = Log::open(&path).unwrap();
    assert_eq!(log.length, 6);
    log.append(b"second");
    assert_eq!(fs::read(&path).unwrap(), b"first second");
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut client = Client {
        stream: ours,
        backlog: VecDeque::new(),
    };
    let chunk = [0; 64 * 1024];
    let sent = (0..100).take_while(|_| client.send(&chunk)).count();
    assert!(sent < 100);
    drop(theirs);
    assert!(!client.send(b"x"));
}
