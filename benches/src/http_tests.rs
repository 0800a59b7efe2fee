use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// Answers one request with `text` and hands back what was asked.
fn serve(text: &'static str) -> (tempfile::TempDir, thread::JoinHandle<String>) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let len = stream.read(&mut request).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..len]).into_owned()
    });
    (folder, server)
}

#[test]
fn an_answer_of_known_length_is_read() {
    let (folder, server) = serve("HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\n{\"type\":\"sync\"}\r\n");
    let answer = Connection::open(&folder.path().join("socket"))
        .unwrap()
        .get("/1.0")
        .unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(envelope(&answer).unwrap()["type"], "sync");
    assert!(server.join().unwrap().starts_with("GET /1.0 HTTP/1.1\r\n"));
}

#[test]
fn a_chunked_error_is_put_together() {
    let (folder, _server) = serve(
        "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"type\":\"\r\n1f;x=y\r\nerror\",\"error\":\"not found now\"}\r\n0\r\n\r\n",
    );
    let answer = Connection::open(&folder.path().join("socket"))
        .unwrap()
        .get("/1.0")
        .unwrap();
    let error = envelope(&answer).unwrap_err().to_string();
    assert_eq!(error, "not found now (404)");
}

#[test]
fn a_closed_connection_is_an_error() {
    let (folder, _server) = serve("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
    assert!(
        Connection::open(&folder.path().join("socket"))
            .unwrap()
            .get("/")
            .is_err()
    );
}
