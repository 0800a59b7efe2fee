//! The guest's words between a kernel's.

use super::*;

#[test]
fn figures_count_once_the_guest_is_done() {
    let mut text = "[    0.1] hello\r\nvirga-bench {\"name\":\"read\",\"value\":1.5}\r\n".to_owned();
    assert_eq!(parse(&text).unwrap(), None);
    text += "[    0.2] virga-bench {\"done\":true}";
    assert_eq!(parse(&text).unwrap(), None, "the last line may still grow");
    text += "\r\n";
    assert_eq!(
        parse(&text).unwrap(),
        Some(Figures::from([("read".to_owned(), 1.5)]))
    );
}

#[test]
fn a_failure_in_the_guest_is_told_with_its_words() {
    let error = parse("virga-bench {\"error\":\"cannot open /dev/vda\"}\n").unwrap_err();
    assert_eq!(error.to_string(), "the guest says: cannot open /dev/vda");
}

#[test]
fn half_a_line_is_an_error_and_no_figure() {
    assert!(parse("virga-bench {\"name\":\"read\",\"val\n").is_err());
}
