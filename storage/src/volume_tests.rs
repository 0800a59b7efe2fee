use super::*;
use proptest::prelude::*;

#[test]
fn names_that_could_leave_the_pool_or_meet_a_temporary_are_refused() {
    for name in [
        "",
        ".",
        "..",
        ".new-1-a",
        "a/b",
        "/",
        "a\0b",
        "a\nb",
        "disk.raw",
        &"x".repeat(201),
    ] {
        assert!(check_name("volume", name).is_err(), "{name:?} was accepted");
    }
    for name in ["c1", "default_c1", "a.b", "image-with-ünicode", &"x".repeat(200)] {
        check_name("volume", name).unwrap();
    }
}

#[test]
fn both_forms_of_an_image_have_places_of_their_own() {
    let tree = VolumeId::new(VolumeKind::Image, ContentType::Filesystem, "abc");
    let disk = VolumeId::new(VolumeKind::Image, ContentType::Block, "abc");
    assert_ne!(tree.entry(), disk.entry());
}

proptest! {
    #[test]
    fn an_accepted_name_is_one_ordinary_path_component(name in "\\PC{0,40}") {
        if check_name("volume", &name).is_ok() {
            let path = std::path::Path::new(&name);
            let parts: Vec<_> = path.components().collect();
            prop_assert_eq!(parts, vec![std::path::Component::Normal(name.as_ref())]);
        }
    }
}
