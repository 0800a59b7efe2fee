//! Reaching the agent of a running instance.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::manager::Running;
use crate::{ApiError, Daemon};

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
