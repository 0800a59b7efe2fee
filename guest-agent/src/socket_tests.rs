use std::io::{Read, Write};

use super::*;

#[test]
fn sockets_work_at_short_and_long_paths() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["s".to_owned(), "x".repeat(70)] {
        let deep = directory.path().join("y".repeat(name.len())).join("instance");
        std::fs::create_dir_all(&deep).unwrap();
        let path = deep.join(format!("{name}.sock"));
        let listener = bind(&path).unwrap();
        assert!(path.exists());
        connect(&path).unwrap().write_all(b"hello").unwrap();
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}

#[test]
fn a_missing_directory_is_not_found() {
    let path = format!("/nowhere/{}/s", "z".repeat(120));
    assert_eq!(
        connect(Path::new(&path)).unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}
