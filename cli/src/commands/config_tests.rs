use super::*;

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn keys_go_to_the_instance_that_is_named_and_else_to_the_daemon() {
    let target = words(&["c1", "limits.cpu=2", "user.a=b=c"]);
    let (instance, pairs) = set_target(&target).unwrap();
    assert_eq!(instance, Some("c1"));
    assert_eq!(Value::Object(pairs), json!({"limits.cpu": "2", "user.a": "b=c"}));

    let target = words(&["c1", "user.note", "two words"]);
    let (instance, pairs) = set_target(&target).unwrap();
    assert_eq!(
        (instance, Value::Object(pairs)),
        (Some("c1"), json!({"user.note": "two words"}))
    );

    let target = words(&["core.debug=1"]);
    let (instance, pairs) = set_target(&target).unwrap();
    assert_eq!(
        (instance, Value::Object(pairs)),
        (None, json!({"core.debug": "1"}))
    );
}

#[test]
fn a_key_without_a_value_is_refused() {
    assert!(set_target(&words(&["c1"])).is_err());
    assert!(set_target(&words(&["c1", "limits.cpu"])).is_err());
}
