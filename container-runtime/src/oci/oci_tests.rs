//! Words of the command line.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn signals_have_names_and_numbers() {
    for (text, number) in [
        ("TERM", libc::SIGTERM),
        ("sigkill", libc::SIGKILL),
        ("SIGPWR", libc::SIGPWR),
        ("9", 9),
        ("RTMIN+3", libc::SIGRTMIN() + 3),
        ("SIGRTMIN", libc::SIGRTMIN()),
    ] {
        assert_eq!(parse_signal(text).unwrap(), number, "{text}");
    }
    for text in ["", "SIG", "65", "-1", "RTMIN+99", "RTMIN+x", "STOPP"] {
        assert!(parse_signal(text).is_err(), "{text}");
    }
}
