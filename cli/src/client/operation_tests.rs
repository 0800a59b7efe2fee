use serde_json::json;

use super::*;

#[test]
fn a_failed_operation_is_an_error_with_the_daemons_words() {
    let err = check(json!({"status": "Failure", "status_code": 400, "err": "no space left"})).unwrap_err();
    assert_eq!(err.to_string(), "no space left");
    let err = check(json!({"status": "Cancelled", "status_code": 401, "err": ""})).unwrap_err();
    assert!(err.to_string().contains("Cancelled"), "{err}");
    assert!(check(json!({"status": "Success", "status_code": 200, "err": ""})).is_ok());
}

#[test]
fn progress_is_found_whatever_the_operation_calls_it() {
    let metadata =
        json!({"create_instance_from_image_unpack_progress": "Unpacking image: 42% (3MB/s)", "fds": {}});
    assert_eq!(
        progress_text(&metadata).as_deref(),
        Some("Unpacking image: 42% (3MB/s)")
    );
    assert_eq!(progress_text(&json!(null)), None);
}
