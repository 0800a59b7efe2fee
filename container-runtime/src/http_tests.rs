//! Requests from clients that cannot be trusted to be clients.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn a_request_is_complete_only_with_its_body() {
    let text = b"PUT /kill?x=1 HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\nhello";
    for end in 0..text.len() {
        assert_eq!(parse_request(&text[..end]).unwrap(), None, "at {end}");
    }
    let request = parse_request(text).unwrap().unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/kill"));
    assert_eq!(request.body, b"hello");
}

#[test]
fn sizes_are_bounded() {
    assert!(parse_request(format!("GET /{} HTTP/1.1", "a".repeat(9000)).as_bytes()).is_err());
    assert!(parse_request(b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n").is_err());
    assert!(parse_request(b"PUT / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n").is_err());
    assert!(parse_request(b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n").is_err());
    assert!(parse_request(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
}

#[test]
fn what_is_sent_as_a_response_is_read_as_one() {
    let bytes = response(409, b"{}");
    assert_eq!(parse_response(&bytes).unwrap(), Some((409, b"{}".to_vec())));
    assert_eq!(parse_response(&bytes[..bytes.len() - 1]).unwrap(), None);
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_an_error_or_incomplete(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_request(&bytes);
        let _ = parse_response(&bytes);
    }
}
