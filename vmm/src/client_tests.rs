//! The client against a server that says what the test wants.

use super::*;
use std::thread;

fn answer(response: &'static str) -> (tempfile::TempDir, thread::JoinHandle<String>) {
    let folder = tempfile::tempdir().unwrap();
    let listener = unix_path::bind(&folder.path().join("control.sock")).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 512];
        let len = stream.read(&mut request).unwrap();
        stream.write_all(response.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..len]).into_owned()
    });
    (folder, server)
}

#[test]
fn a_state_is_read() {
    let body = r#"{"state":"running","pid":7,"vcpus":2,"memory_bytes":4096}"#;
    let (folder, server) = answer(Box::leak(
        format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_boxed_str(),
    ));
    let state = Client::at(folder.path().join("control.sock")).state().unwrap();
    assert_eq!((state.pid, state.vcpus), (7, 2));
    assert!(server.join().unwrap().starts_with("GET /state HTTP/1.1\r\n"));
}

#[test]
fn a_refusal_carries_the_vms_words() {
    let (folder, server) = answer("HTTP/1.1 409 Conflict\r\n\r\n{\"error\":\"it is paused already\"}");
    let error = Client::at(folder.path().join("control.sock"))
        .pause()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the VM refuses PUT /pause: it is paused already (status 409)"
    );
    server.join().unwrap();
}

#[test]
fn a_vm_that_is_gone_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(folder.path()).unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }) && error.to_string().contains("exit.json"),
        "{error}"
    );
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_success() {
    let (folder, server) = answer("HTTP/1.1 200 O");
    let error = Client::at(folder.path().join("control.sock")).stop().unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. }), "{error}");
    server.join().unwrap();
}
