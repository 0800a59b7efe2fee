//! Reaching the agent of a running instance.

use std::sync::Arc;

use std::time::Duration;

use api::{InstanceType, Timestamp};
use tokio::net::UnixStream;

use super::manager::Running;
use crate::{ApiError, Daemon};

/// How long after its start a VM may still be booting, in seconds.
const BOOT_PATIENCE_S: i64 = 60;
/// How often a booting VM is asked.
const RETRY: Duration = Duration::from_millis(50);

/// A fresh connection to the agent inside.
pub async fn connect(daemon: &Arc<Daemon>, running: &Arc<Running>) -> Result<UnixStream, ApiError> {
    let run_dir = running.run_dir.clone();
    let stream = daemon
        .instances
        .with_driver(running.kind, move |driver| driver.agent(&run_dir))
        .await?;
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

/// As [`connect`], for what a person has just asked for: a VM that has only just been started is given the time to
/// bring its agent up, as its guest has to boot first.
pub async fn connect_patiently(daemon: &Arc<Daemon>, running: &Arc<Running>) -> Result<UnixStream, ApiError> {
    loop {
        let refusal = match connect(daemon, running).await {
            Ok(stream) => return Ok(stream),
            Err(refusal) => refusal,
        };
        let age = Timestamp::now().as_unix() - running.started_at.as_unix();
        let booting = running.kind == InstanceType::VirtualMachine && age < BOOT_PATIENCE_S;
        if !booting || running.is_over() {
            return Err(refusal);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// An error of a conversation with an agent.
pub fn failed(error: &guest_agent::client::ClientError) -> ApiError {
    use guest_agent::client::ClientError;
    use guest_agent::protocol::ErrorKind;
    match error {
        ClientError::Refused(refusal) => match refusal.kind {
            ErrorKind::NotFound => ApiError::new(http::StatusCode::NOT_FOUND, &refusal.message),
            ErrorKind::Permission => ApiError::forbidden(&refusal.message),
            ErrorKind::Invalid => ApiError::bad_request(&refusal.message),
            ErrorKind::Failed => ApiError::internal(&refusal.message),
        },
        _ => ApiError::from_error(error),
    }
}
