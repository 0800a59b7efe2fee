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
