//! The program itself, as a service.

#![allow(clippy::unwrap_used)] // a test that cannot go on ends here

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use guest_agent::client;
use guest_agent::protocol::ExecRequest;
use tokio::net::UnixStream;

/// A running agent; killed at the end of the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn agent() -> Command {
    Command::new(env!("CARGO_BIN_EXE_virga-agent"))
}

#[tokio::test]
async fn many_connections_are_served_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    let _agent = Agent(agent().arg("--listen-unix").arg(&socket).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "the agent does not listen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // One connection that says nothing holds up nobody.
    let _silent = UnixStream::connect(&socket).await.unwrap();
    let mut running = Vec::new();
    for number in 0..10 {
        let stream = UnixStream::connect(&socket).await.unwrap();
        let command = ["sh", "-c", "sleep 0.2; exit $0", &number.to_string()]
            .map(str::to_owned)
            .to_vec();
        running.push(
            client::exec(
                stream,
                ExecRequest {
                    command,
                    ..ExecRequest::default()
                },
            )
            .await
            .unwrap(),
        );
    }
    for (number, stream) in running.into_iter().enumerate() {
        assert_eq!(stream.events.collect().await.unwrap().2, number as i32);
    }
    let hello = client::hello(UnixStream::connect(&socket).await.unwrap())
        .await
        .unwrap();
    assert_eq!(hello.agent, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn one_connection_can_come_as_standard_input() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut child = agent()
        .arg("--stdio")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    ours.set_nonblocking(true).unwrap();
    client::hello(UnixStream::from_std(ours).unwrap()).await.unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn a_directory_given_as_root_is_not_left() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(directory.path().join("secret"), "outside").unwrap();
    std::fs::write(root.join("file"), "inside").unwrap();
    std::os::unix::fs::symlink(directory.path().join("secret"), root.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret", root.join("relative")).unwrap();
    std::os::unix::fs::symlink("../../../file", root.join("above")).unwrap();
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut child = agent()
        .args(["--stdio", "--root"])
        .arg(&root)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    ours.set_nonblocking(true).unwrap();
    let sftp = client::sftp_session(UnixStream::from_std(ours).unwrap())
        .await
        .unwrap();
    for path in ["/file", "/above", "/../../file"] {
        assert_eq!(sftp.read(path).await.unwrap(), b"inside", "{path}");
    }
    for path in ["/absolute", "/relative", "/../secret"] {
        assert!(sftp.read(path).await.is_err(), "{path}");
    }
    // The session's own task lets go of the connection once it gets to run.
    drop(sftp);
    let status = tokio::task::spawn_blocking(move || child.wait());
    assert!(status.await.unwrap().unwrap().success());
}

#[test]
fn wrong_arguments_are_explained() {
    for arguments in [&["--nonsense"][..], &["--service", "many"], &[]] {
        let output = agent().args(arguments).output().unwrap();
        assert!(!output.status.success());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.starts_with("virga-agent: ") && message.len() > 30,
            "{message}"
        );
    }
    assert!(agent().arg("--version").output().unwrap().status.success());
}
