//! Telling processes apart.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_start_time_is_found_behind_any_command_name() {
    let fields: Vec<String> = (4..=40).map(|n| n.to_string()).collect();
    for name in ["sh", "a b", "x) R 1 2 (y", "()"] {
        let stat = format!("77 ({name}) S {}\n", fields.join(" "));
        assert_eq!(parse_start_time(&stat), Some(22), "{name}");
    }
    assert_eq!(parse_start_time(""), None);
    assert_eq!(parse_start_time("1 (x) S 1 2"), None);
}

#[test]
fn a_process_is_alive_only_with_its_own_start_time() {
    let pid = std::process::id() as i32;
    let start = start_time(pid).unwrap();
    assert!(is_alive(pid, start));
    assert!(!is_alive(pid, start + 1));
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let (pid, start) = (child.id() as i32, start_time(child.id() as i32).unwrap());
    // Ended but not collected: a zombie is not alive.
    while is_alive(pid, start) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child.wait().unwrap();
    assert!(!is_alive(pid, start));
}
