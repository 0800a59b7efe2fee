use super::*;

#[test]
fn an_instance_and_a_path_are_told_apart() {
    let found = remote("c1/etc/hosts").unwrap();
    assert_eq!((found.instance, found.path.as_str()), ("c1", "/etc/hosts"));
    assert_eq!(remote("c1/").unwrap().path, "/");
    for text in ["c1", "/etc/hosts", "./file", "../file", ""] {
        assert!(remote(text).is_err(), "{text}");
    }
}

#[test]
fn the_parent_of_a_path_is_its_folder() {
    assert_eq!(parent("/srv/www/index.html"), "/srv/www");
    assert_eq!(parent("/file"), "");
    assert_eq!(parent("/srv/www/"), "/srv");
}
