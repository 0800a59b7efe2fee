//! Connections that behave and connections that do not.

use super::*;

fn pair() -> (Server, UnixStream, u32, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut server = Server::new(UnixListener::bind(&path).unwrap()).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let number = server.accept().unwrap().0;
    (server, client, number, folder)
}

fn echo(request: &Request) -> Response {
    Response::ok(serde_json::json!({"path": request.path}))
}

#[test]
fn a_request_in_pieces_is_answered_once_it_is_complete() {
    let (mut server, mut client, number, _folder) = pair();
    client.write_all(b"GET /sta").unwrap();
    assert_eq!(server.serve(number, &mut echo), Next::Read);
    client.write_all(b"te HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(server.serve(number, &mut echo), Next::Close);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("{\"path\":\"/state\"}\n"), "{text}");
}

#[test]
fn nonsense_is_refused_and_a_client_that_hangs_up_is_forgotten() {
    let (mut server, mut client, number, folder) = pair();
    client.write_all(b"\0\0\0").unwrap();
    assert_eq!(server.serve(number, &mut echo), Next::Close);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 400 "), "{text}");
    drop(UnixStream::connect(folder.path().join("s")).unwrap());
    let number = server.accept().unwrap().0;
    assert_eq!(server.serve(number, &mut echo), Next::Close);
    assert_eq!(server.connection_fd(number), None);
}

#[test]
fn too_many_connections_are_turned_away() {
    let (mut server, _client, _number, folder) = pair();
    let clients: Vec<_> = (0..40)
        .map(|_| UnixStream::connect(folder.path().join("s")).unwrap())
        .collect();
    let accepted = clients.iter().filter(|_| server.accept().is_some()).count();
    assert_eq!(accepted, MAX_CONNECTIONS - 1);
}
