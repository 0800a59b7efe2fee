use super::*;

#[test]
fn a_microvm_fingerprint_is_a_fingerprint_and_belongs_to_one_image() {
    let first = fingerprint_of(&"a".repeat(64));
    assert_eq!(first.len(), 64);
    assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(first, fingerprint_of(&"a".repeat(64)));
    assert_ne!(first, fingerprint_of(&"b".repeat(64)));
}
