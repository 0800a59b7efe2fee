use super::*;

#[test]
fn a_value_may_hold_equal_signs_and_be_empty() {
    assert_eq!(split("raw.x=a=b").unwrap(), ("raw.x", "a=b"));
    assert_eq!(split("user.note=").unwrap(), ("user.note", ""));
}

#[test]
fn what_is_no_pair_is_named_in_the_error() {
    for text in ["novalue", "=x", ""] {
        let err = split(text).unwrap_err().to_string();
        assert!(err.contains(&format!("'{text}'")), "{err}");
    }
}
