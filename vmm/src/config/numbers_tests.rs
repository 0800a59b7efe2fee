//! Lists as people write them.

use super::*;
use proptest::prelude::*;

#[test]
fn lists_are_read_and_written_in_the_short_form() {
    for (text, short) in [
        ("0", "0"),
        ("3,1,2,7", "1-3,7"),
        ("0-2,2-4", "0-4"),
        ("8191", "8191"),
    ] {
        assert_eq!(text.parse::<Numbers>().unwrap().to_string(), short);
    }
}

#[test]
fn what_is_no_list_is_refused() {
    for text in ["", "a", "1-", "-1", "3-1", "8192", "1,,2", "0x1", "99999999999"] {
        let problem = text.parse::<Numbers>().unwrap_err();
        assert!(problem.contains("like \"0-3,8\""), "{problem}");
    }
}

proptest! {
    #[test]
    fn any_set_survives_a_round_trip(set in proptest::collection::btree_set(0u16..200, 1..50)) {
        let numbers: Numbers = set.iter().copied().collect();
        let again: Numbers = numbers.to_string().parse().unwrap();
        prop_assert_eq!(again.iter().collect::<Vec<_>>(), set.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _ = text.parse::<Numbers>();
    }
}
