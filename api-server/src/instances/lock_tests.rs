use super::*;

fn key() -> InstanceKey {
    ("default".into(), "c1".into())
}

#[test]
fn second_operation_is_told_what_the_first_one_does() {
    let locks = Locks::default();
    let lock = locks.take(&key(), "start").unwrap();
    let error = locks.take(&key(), "stop").unwrap_err();
    assert_eq!(error.message, "Instance is busy running a \"start\" operation");
    lock.turn_into("restart");
    assert_eq!(locks.action(&key()), Some("restart"));
    drop(lock);
    assert_eq!(locks.action(&key()), None);
    locks.take(&key(), "stop").unwrap();
}

#[test]
fn instances_do_not_wait_for_each_other() {
    let locks = Locks::default();
    let _one = locks.take(&key(), "start").unwrap();
    locks.take(&("other".into(), "c1".into()), "start").unwrap();
}
