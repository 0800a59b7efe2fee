//! An agent at the other end of a socket pair.

use std::time::Duration;

use guest_agent::client::{self, ClientError, ExecStream};
use guest_agent::protocol::{ExecRequest, ProtocolError};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// Longer than any of these conversations takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, and the task that serves it.
pub(crate) fn agent() -> (UnixStream, JoinHandle<Result<(), ProtocolError>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours, tokio::spawn(guest_agent::server::serve(theirs)))
}

/// A request to run `command` without terminal and input.
#[allow(dead_code)] // each test file uses what it needs
pub(crate) fn request(command: &[&str]) -> ExecRequest {
    ExecRequest {
        command: command.iter().map(|&part| part.into()).collect(),
        ..ExecRequest::default()
    }
}

/// Runs `request` at an agent of its own.
#[allow(dead_code)]
pub(crate) async fn exec(request: ExecRequest) -> Result<ExecStream, ClientError> {
    client::exec(agent().0, request).await
}

/// Runs a command to its end: output, error output, status.
#[allow(dead_code)]
pub(crate) async fn run(request: ExecRequest) -> (String, String, i32) {
    let stream = exec(request).await.unwrap();
    let (out, err, status) = tokio::time::timeout(PATIENCE, stream.events.collect())
        .await
        .unwrap()
        .unwrap();
    (
        String::from_utf8_lossy(&out).into(),
        String::from_utf8_lossy(&err).into(),
        status,
    )
}
