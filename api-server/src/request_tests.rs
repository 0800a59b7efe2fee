use http::HeaderMap;
use proptest::prelude::*;

use super::{IfMatch, Query, parse_json, percent_decode};

#[test]
fn queries_are_decoded() {
    let query = Query::parse("project=a%20b&filter=name+eq+c1&recursion=2&all-projects=true&empty=");
    assert_eq!(query.get("project"), Some("a b"));
    assert_eq!(query.get("filter"), Some("name eq c1"));
    assert_eq!(query.recursion(), 2);
    assert!(query.is_true("all-projects"));
    assert_eq!(query.get_non_empty("empty"), None);
    assert_eq!(Query::parse("").recursion(), 0);
}

#[test]
fn percent_signs_without_digits_stay() {
    assert_eq!(percent_decode("100%"), "100%");
    assert_eq!(percent_decode("%zz%4"), "%zz%4");
    assert_eq!(percent_decode("%2f%2F"), "//");
    assert_eq!(percent_decode("%ff"), "\u{fffd}");
}

#[test]
fn conditions_compare_with_and_without_quotes() {
    assert!(!IfMatch::from_headers(&HeaderMap::new()).is_set());
    let mut headers = HeaderMap::new();
    headers.insert("if-match", "*".parse().unwrap());
    assert!(!IfMatch::from_headers(&headers).is_set());
    headers.insert("if-match", "\"abc\"".parse().unwrap());
    assert!(IfMatch::from_headers(&headers).is_set());
}

#[test]
fn documents_that_are_none_are_told_as_go_tells_them() {
    assert_eq!(
        parse_json::<serde_json::Value>(b" \n").unwrap_err().message,
        "EOF"
    );
    assert!(
        parse_json::<Vec<u8>>(b"{")
            .unwrap_err()
            .message
            .starts_with("Invalid JSON: ")
    );
}

proptest! {
    #[test]
    fn decoding_undoes_encoding(text in "\\PC{0,40}") {
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        prop_assert_eq!(percent_decode(&encoded), text);
    }

    #[test]
    fn no_query_makes_it_panic(text in ".{0,100}") {
        Query::parse(&text).recursion();
    }
}
