//! Connections that behave and connections that do not.

use super::*;
use std::io::Read;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

fn pair() -> (Server, UnixStream, u32, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let mut server = Server::new(UnixListener::bind(&path).unwrap()).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let number = server.accept().unwrap().0;
    (server, client, number, folder)
}

fn echo(request: &Request, _: &mut Files) -> Response {
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
fn descriptors_arrive_with_their_request_in_order_and_are_taken_once() {
    let (mut server, mut client, number, folder) = pair();
    let mut open = Vec::new();
    for name in ["first", "second"] {
        let path = folder.path().join(name);
        std::fs::write(&path, name).unwrap();
        open.push(std::fs::File::open(path).unwrap());
    }
    client
        .send_with_fds(&[&b"PUT / HTTP/1.1\r\n"[..]], &[open[0].as_raw_fd()])
        .unwrap();
    client
        .send_with_fds(&[&b"\r\n"[..]], &[open[1].as_raw_fd()])
        .unwrap();
    let mut read = Vec::new();
    let next = server.serve(number, &mut |request, files| {
        for number in [1, 0, 0, 2] {
            read.push(
                files
                    .take(number)
                    .map(|file| std::io::read_to_string(std::fs::File::from(file)).unwrap()),
            );
        }
        echo(request, files)
    });
    assert_eq!(next, Next::Close);
    assert_eq!(
        read,
        [Some("second".to_owned()), Some("first".to_owned()), None, None]
    );
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

#[test]
fn too_many_descriptors_are_refused_and_none_of_them_stays_open() {
    for batches in [&[MAX_FILES + 1][..], &[MAX_FILES, 1], &[40]] {
        let (mut server, mut client, number, _folder) = pair();
        let (probe, watched) = UnixStream::pair().unwrap();
        for count in batches {
            let copies: Vec<_> = (0..*count).map(|_| watched.try_clone().unwrap()).collect();
            let numbers: Vec<_> = copies.iter().map(AsRawFd::as_raw_fd).collect();
            client.send_with_fds(&[&b"GET "[..]], &numbers).unwrap();
        }
        drop(watched);
        assert_eq!(server.serve(number, &mut echo), Next::Close);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 400 ") && text.contains("bring 16"),
            "{text}"
        );
        // The other end is closed once nobody holds a copy.
        probe.set_nonblocking(true).unwrap();
        assert_eq!((&probe).read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn clients_that_hang_do_not_keep_others_out() {
    let (mut server, mut first, number, folder) = pair();
    first.write_all(b"GET /sta").unwrap();
    assert_eq!(server.serve(number, &mut echo), Next::Read);
    let hanging: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = UnixStream::connect(folder.path().join("s")).unwrap();
            client.write_all(b"GET /").unwrap();
            let (number, _) = server.accept().unwrap();
            assert_eq!(server.serve(number, &mut echo), Next::Read);
            client
        })
        .collect();
    assert_eq!(server.connections.len(), MAX_CONNECTIONS);
    let mut good = UnixStream::connect(folder.path().join("s")).unwrap();
    good.write_all(b"GET /state HTTP/1.1\r\n\r\n").unwrap();
    let (number, _) = server.accept().unwrap();
    assert_eq!(server.serve(number, &mut echo), Next::Close);
    let mut text = String::new();
    good.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    drop(hanging);
}

#[test]
fn the_time_of_a_client_runs_out_whatever_it_does() {
    let (mut server, mut slow, number, folder) = pair();
    slow.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // More than a socket takes, for somebody who does not read it.
    let mut large = |_: &Request, _: &mut Files| Response::ok("x".repeat(8 << 20).into());
    assert_eq!(server.serve(number, &mut large), Next::Write);
    assert_eq!(server.serve(number, &mut large), Next::Write);
    let _silent = UnixStream::connect(folder.path().join("s")).unwrap();
    let silent = server.accept().unwrap().0;
    let start = Instant::now();
    let (first, left) = server.oldest(start).unwrap();
    assert!(first == number && !left.is_zero() && left <= TIME_LIMIT);
    for late in [number, silent] {
        assert_eq!(server.oldest(start + TIME_LIMIT), Some((late, Duration::ZERO)));
        server.forget(late);
        assert_eq!(server.serve(late, &mut large), Next::Close);
    }
    assert_eq!(server.oldest(start), None);
    let mut bytes = Vec::new();
    slow.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() < 8 << 20);
}
