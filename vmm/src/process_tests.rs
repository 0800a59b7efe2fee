//! This process in `/proc`.

use super::*;

#[test]
fn names_with_parentheses_do_not_confuse() {
    let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 97 0 0 0 0 0 0 0 20 0 1 0 4711 2863104 206 1";
    assert_eq!(parse(stat), Some((42, 4711)));
    assert_eq!(parse("42 (a) S 1"), None);
}

#[test]
fn this_process_is_found() {
    let process = Process::here().unwrap();
    assert_eq!(process.pid, std::process::id());
    assert!(process.start_time > 0);
}
