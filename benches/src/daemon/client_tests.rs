use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// Serves one connection: each request is answered with the next of `answers`. Hands back the request lines.
fn serve(answers: &'static [&'static str]) -> (tempfile::TempDir, thread::JoinHandle<Vec<String>>) {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = BufReader::new(stream);
        let mut requests = Vec::new();
        for answer in answers {
            let (mut head, mut len) = (Vec::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    len = value.trim().parse().unwrap();
                }
                match line.trim_end() {
                    "" => break,
                    line => head.push(line.to_owned()),
                }
            }
            stream.read_exact(&mut vec![0; len]).unwrap();
            requests.push(head[0].clone());
            let text = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
                answer.len()
            );
            stream.get_mut().write_all(text.as_bytes()).unwrap();
        }
        requests
    });
    (folder, server)
}

#[test]
fn a_launch_is_over_when_its_operation_is() {
    let (folder, server) = serve(&[
        r#"{"type":"async","operation":"/1.0/operations/7","metadata":{}}"#,
        r#"{"type":"sync","metadata":{"status_code":200,"err":""}}"#,
    ]);
    Client::open(&folder.path().join("socket"))
        .unwrap()
        .create("c1", true)
        .unwrap();
    let requests = server.join().unwrap();
    assert_eq!(
        requests,
        [
            "POST /1.0/instances HTTP/1.1",
            "GET /1.0/operations/7/wait HTTP/1.1"
        ]
    );
}

#[test]
fn an_operation_that_failed_is_an_error_with_its_reason() {
    let (folder, _server) = serve(&[
        r#"{"type":"async","operation":"/1.0/operations/7","metadata":{}}"#,
        r#"{"type":"sync","metadata":{"status_code":400,"err":"no space left"}}"#,
    ]);
    let error = Client::open(&folder.path().join("socket"))
        .unwrap()
        .create("c1", true)
        .unwrap_err();
    assert!(format!("{error:#}").contains("no space left"), "{error:#}");
}

#[test]
fn a_command_that_fails_inside_is_an_error() {
    let (folder, _server) = serve(&[
        r#"{"type":"async","operation":"/1.0/operations/7","metadata":{}}"#,
        r#"{"type":"sync","metadata":{"status_code":200,"err":"","metadata":{"return":1}}}"#,
    ]);
    let error = Client::open(&folder.path().join("socket"))
        .unwrap()
        .exec("c1", &["false"])
        .unwrap_err();
    assert!(error.to_string().contains("returned 1"), "{error}");
}

#[test]
fn a_running_instance_is_stopped_before_it_is_deleted() {
    let (folder, server) = serve(&[
        r#"{"type":"sync","metadata":{"status":"Running"}}"#,
        r#"{"type":"async","operation":"/1.0/operations/1","metadata":{}}"#,
        r#"{"type":"sync","metadata":{"status_code":200}}"#,
        r#"{"type":"async","operation":"/1.0/operations/2","metadata":{}}"#,
        r#"{"type":"sync","metadata":{"status_code":200}}"#,
    ]);
    Client::open(&folder.path().join("socket"))
        .unwrap()
        .delete("c1")
        .unwrap();
    let requests = server.join().unwrap();
    assert_eq!(requests[1], "PUT /1.0/instances/c1/state HTTP/1.1");
    assert_eq!(requests[3], "DELETE /1.0/instances/c1 HTTP/1.1");
}
