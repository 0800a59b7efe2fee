use super::*;

#[test]
fn names_with_special_characters_stay_one_path_segment() {
    assert_eq!(escape("a b/ü?&#"), "a%20b%2F%C3%BC%3F%26%23");
    assert_eq!(escape("c1-x.y_z~"), "c1-x.y_z~");
}

#[test]
fn the_project_is_added_to_any_path() {
    let client = Client::new("/s".into(), Some("my project".into()), true);
    assert_eq!(
        client.with_project("/1.0/instances"),
        "/1.0/instances?project=my%20project"
    );
    assert_eq!(
        client.with_project("/1.0/instances?recursion=1"),
        "/1.0/instances?recursion=1&project=my%20project"
    );
    let client = Client::new("/s".into(), None, true);
    assert_eq!(client.with_project("/1.0"), "/1.0");
}

#[test]
fn a_daemon_that_is_not_there_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("unix.socket");
    let client = Client::new(socket.clone(), None, true);
    let err = runtime.block_on(client.get("/1.0")).unwrap_err();
    assert!(
        matches!(&err, Error::Unreachable { path, .. } if *path == socket),
        "{err}"
    );
}
