use proptest::prelude::*;
use serde_json::{Value, json};

use super::Filter;

fn instance() -> Value {
    json!({
        "name": "c1",
        "status": "Running",
        "ephemeral": false,
        "size": 1024,
        "config": {"user.tier": "gold", "limits.cpu": "4"},
        "expanded_devices": {"eth0": {"network": "virgabr0"}},
        "profiles": ["default", "big"],
        "created_at": "2026-11-23T17:29:15Z"
    })
}

fn matches(filter: &str) -> bool {
    Filter::parse(filter).unwrap().matches(&instance())
}

#[test]
fn clauses_find_fields_keys_with_dots_and_nested_members() {
    for filter in [
        "",
        "name eq c1",
        "status eq running",
        "ephemeral eq false",
        "size eq 1024",
        "config.user.tier eq gold",
        "expanded_devices.eth0.network eq virgabr0",
        "profiles eq big",
        "config.user.missing eq \"\"",
        "name ne c2",
        "size gt 1000 and size le 1024",
        "config.limits.cpu ge 4",
        "created_at gt 2026-01-01",
        "name eq 'c1'",
    ] {
        assert!(matches(filter), "{filter}");
    }
    for filter in [
        "name eq c",
        "status eq Stopped",
        "ephemeral eq true",
        "config.user.tier ne gold",
        "size lt 1024",
    ] {
        assert!(!matches(filter), "{filter}");
    }
}

#[test]
fn texts_are_regular_expressions_over_the_whole_value() {
    assert!(matches("name eq c.*"));
    assert!(matches("name eq (c1|c2)"));
    assert!(
        matches("(name eq (^c1$|^c1.*)) and status eq Running"),
        "as `incus list c1` sends it"
    );
    assert!(matches("name eq ^c"));
    assert!(!matches("name eq 1"));
    assert!(
        !matches("name eq ("),
        "what does not compile is compared as it is"
    );
}

#[test]
fn logic_goes_from_left_to_right_and_parentheses_group() {
    assert!(matches("name eq x and name eq y or name eq c1"));
    assert!(
        !matches("name eq c1 or name eq y and name eq z"),
        "left to right, without precedence"
    );
    assert!(matches("name eq c1 or (name eq y and name eq z)"));
    assert!(matches("not name eq x and not (status eq stopped or name eq y)"));
}

#[test]
fn what_is_wrong_is_refused_with_400() {
    for filter in [
        "name",
        "name eq",
        "name is c1",
        "name eq c1 name eq c2",
        "(name eq c1",
        "name eq c1)",
        "and",
        "name eq \"c1",
    ] {
        let error = Filter::parse(filter).expect_err(filter);
        assert_eq!(error.status, http::StatusCode::BAD_REQUEST, "{filter}");
        assert!(error.message.starts_with("Invalid filter: "), "{}", error.message);
    }
    assert!(Filter::parse(&"(".repeat(1000)).is_err());
    assert!(Filter::parse(&"x".repeat(5000)).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ -~]{0,60}", other in "(not |\\(|\\)|and |or |eq |ne |a |\"b\" ){0,20}") {
        for text in [text, other] {
            if let Ok(filter) = Filter::parse(&text) {
                filter.matches(&instance());
            }
        }
    }

    #[test]
    fn a_clause_and_its_opposite_never_agree(field in "name|status|size|config\\.user\\.tier|none", value in "[a-z0-9]{1,6}") {
        prop_assert_ne!(matches(&format!("{field} eq {value}")), matches(&format!("{field} ne {value}")));
        prop_assert_ne!(matches(&format!("{field} eq {value}")), matches(&format!("not {field} eq {value}")));
    }

    #[test]
    fn double_negation_by_groups_changes_nothing(value in "c[0-3]") {
        prop_assert_eq!(matches(&format!("name eq {value}")), matches(&format!("not (not name eq {value})")));
    }
}
