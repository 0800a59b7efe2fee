use super::*;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                      broken line\n\
                      alice:x:1000:1000:Alice,,,:/home/alice:/bin/sh\n\
                      nohome:x:1001:1001:::/bin/sh\n";
const GROUP: &str =
    "root:x:0:\ntty:x:5:\nsudo:x:27:alice,bob\nbroken\ndocker:x:999:bob, alice\nalice:x:1000:\n";

#[test]
fn users_are_found_by_id_past_broken_lines() {
    assert_eq!(
        find_user(PASSWD, 1000),
        Some(User {
            name: "alice".into(),
            home: "/home/alice".into()
        })
    );
    assert_eq!(find_user(PASSWD, 1001).map(|user| user.home), Some("/".into()));
    assert_eq!(find_user(PASSWD, 7), None);
}

#[test]
fn primary_group_comes_first_and_only_once() {
    assert_eq!(find_groups(GROUP, "alice", 1000), [1000, 27, 999]);
    assert_eq!(find_groups(GROUP, "alice", 27), [27, 999]);
    assert_eq!(find_groups(GROUP, "carol", 3), [3]);
}

#[test]
fn groups_are_found_by_name() {
    assert_eq!(find_group_id(GROUP, "tty"), Some(5));
    assert_eq!(find_group_id(GROUP, "nobody"), None);
}

#[test]
fn root_exists_without_any_file() {
    assert_eq!(user(0).map(|user| user.name), Some("root".into()));
}
