//! The control socket's HTTP parser.

use super::*;
use proptest::prelude::*;

fn refused(bytes: &[u8]) -> u16 {
    match parse(bytes) {
        Parsed::Refused(response) => response.status,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn what_curl_sends_is_understood() {
    let bytes =
        b"PUT /pause?x=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl\r\nContent-Length: 2\r\n\r\n{}";
    let request = Request {
        method: "PUT".into(),
        path: "/pause".into(),
        query: "x=1".into(),
        body: b"{}".to_vec(),
    };
    assert_eq!(parse(bytes), Parsed::Request(request));
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Parsed::Partial, "first {end} bytes");
    }
}

#[test]
fn ambiguous_and_oversized_requests_are_refused() {
    assert_eq!(refused(b"\x16\x03\x01 TLS hello"), 400);
    assert_eq!(
        refused(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        501
    );
    assert_eq!(
        refused(b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        400
    );
    assert_eq!(refused(b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na"), 400);
    assert_eq!(refused(b"GET / HTTP/1.1\r\nContent-Length: 70000\r\n\r\n"), 413);
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(MAX_HEAD_BYTES));
    assert_eq!(refused(long.as_bytes()), 431);
}

#[test]
fn a_response_is_complete_http() {
    let text = String::from_utf8(Response::error(409, "no").encode()).unwrap();
    assert!(text.starts_with("HTTP/1.1 409 Conflict\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n{\"error\":\"no\"}\n"), "{text}");
    assert!(text.contains("Content-Length: 15\r\n"), "{text}");
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer_without_a_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }

    #[test]
    fn a_buffer_at_its_limit_is_never_partial(filler in "[a-z]{1,64}") {
        let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
        while bytes.len() < MAX_HEAD_BYTES {
            bytes.extend_from_slice(format!("X: {filler}\r\n").as_bytes());
        }
        prop_assert!(matches!(parse(&bytes), Parsed::Refused(_)));
    }
}
