//! Files by path and by descriptor.

use super::*;
use std::io::{Read, Write};

fn offered(descriptor: impl Into<OwnedFd>) -> PathBuf {
    format!("fd:{}", offer(descriptor.into())).into()
}

#[test]
fn only_a_number_behind_fd_is_a_descriptor() {
    assert_eq!(number(Path::new("fd:7")), Some(7));
    for path in ["fd", "fd:", "fd:x", "./fd:7", "/fd:7", "fd:99999999999"] {
        assert_eq!(number(Path::new(path)), None, "{path}");
    }
    let folder = Path::new("/run/v1");
    assert_eq!(resolve(folder, Path::new("fd:7")), Path::new("fd:7"));
    assert_eq!(resolve(folder, Path::new("./fd:7")), Path::new("/run/v1/./fd:7"));
}

#[test]
fn a_descriptor_is_the_file_it_stands_for_and_is_taken_once() {
    let path = offered(tempfile::tempfile().unwrap());
    let mut file = open(&path, Access::ReadWrite).unwrap();
    file.write_all(b"here").unwrap();
    let message = open(&path, Access::ReadWrite).unwrap_err().to_string();
    assert!(message.contains("pass it on to this process"), "{message}");
}

#[test]
fn a_descriptor_that_cannot_do_what_is_needed_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let read_only = || File::open(file.path()).unwrap();
    let message = open(&offered(read_only()), Access::ReadWrite)
        .unwrap_err()
        .to_string();
    assert!(message.contains("not open for writing"), "{message}");
    open(&offered(read_only()), Access::Read).unwrap();
    let write_only = OpenOptions::new().write(true).open(file.path()).unwrap();
    let message = open(&offered(write_only), Access::Read).unwrap_err().to_string();
    assert!(message.contains("not open for reading"), "{message}");
    let message = open_with(&offered(read_only()), Access::Read, libc::O_DIRECT)
        .unwrap_err()
        .to_string();
    assert!(message.contains("flags"), "{message}");
    assert!(listen(&offered(read_only())).is_err());
    assert!(connect(&offered(read_only())).is_err());
}

#[test]
fn sockets_are_taken_like_files() {
    let folder = tempfile::tempdir().unwrap();
    let bound = folder.path().join("s");
    let listener = listen(&offered(UnixListener::bind(&bound).unwrap())).unwrap();
    let mut client = connect(&offered(UnixStream::connect(&bound).unwrap())).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    let mut byte = [0];
    served.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
    let (connected, _other) = UnixStream::pair().unwrap();
    assert!(
        listen(&offered(connected)).is_err(),
        "a connection does not listen"
    );
}
