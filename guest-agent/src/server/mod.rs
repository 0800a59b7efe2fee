//! The instance's side: serves one connection.
//!
//! Nothing here assumes a virtual machine: a container's agent process joins the container's namespaces and then
//! serves its socket pair with the same code. Nothing here uses the C library's name service either, so the static
//! program works in any root file system. File operations block their thread: give every connection a thread (or
//! process) of its own with a current-thread runtime.

pub(crate) mod async_file;
mod exec;
mod process;
mod sftp;
mod sftp_files;
pub mod shutdown;
mod status;
mod users;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::protocol::{
    AgentError, ErrorKind, Frame, Hello, PROTOCOL_VERSION, ProtocolError, Request, Response, ResponseBody,
    read_frame, write_frame,
};

/// Serves one connection to its end, on a runtime with I/O and time enabled.
///
/// A command that still runs when the peer vanishes, or when this future is dropped, is killed with its process
/// group.
pub async fn serve<S>(mut stream: S) -> Result<(), ProtocolError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = match read_frame(&mut stream).await {
        Ok(None) => return Ok(()),
        Ok(Some(Frame::Request(request))) => request,
        Ok(Some(other)) => {
            let error = ProtocolError::Unexpected(other.name());
            refuse(&mut stream, invalid(&error)).await?;
            return Err(error);
        }
        Err(error @ ProtocolError::Io(_)) => return Err(error),
        Err(error) => {
            refuse(&mut stream, invalid(&error)).await?;
            return Err(error);
        }
    };
    match request {
        Request::Hello => accept(&mut stream, ResponseBody::Hello(hello())).await,
        Request::State => {
            let state = status::gather().await;
            accept(&mut stream, ResponseBody::State(Box::new(state))).await
        }
        Request::Exec(request) => exec::run(stream, request).await,
        Request::Sftp => {
            accept(&mut stream, ResponseBody::Empty).await?;
            sftp::run(stream).await
        }
        Request::Shutdown { action } => match shutdown::Plan::find(action) {
            Ok(plan) => {
                // The answer goes first: afterwards there may be nobody left to send it.
                accept(&mut stream, ResponseBody::Empty).await?;
                plan.carry_out().map_err(ProtocolError::Io)
            }
            Err(error) => refuse(&mut stream, error).await,
        },
    }
}

/// Answers the one request of a connection that there is a reason not to serve.
pub async fn refuse_whatever<S>(mut stream: S, message: String) -> Result<(), ProtocolError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Read all the same: a connection that is closed before looks broken to the client that writes to it.
    read_frame(&mut stream).await?;
    let kind = ErrorKind::Failed;
    refuse(&mut stream, AgentError { kind, message }).await
}

/// Answers that the request is accepted.
async fn accept<S>(stream: &mut S, body: ResponseBody) -> Result<(), ProtocolError>
where
    S: AsyncWrite + Unpin,
{
    write_frame(stream, &Frame::Response(Response::Ok(body))).await
}

/// Answers that it is not.
async fn refuse<S>(stream: &mut S, error: AgentError) -> Result<(), ProtocolError>
where
    S: AsyncWrite + Unpin,
{
    write_frame(stream, &Frame::Response(Response::Error(error))).await
}

fn invalid(error: &ProtocolError) -> AgentError {
    let message = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    AgentError {
        kind: ErrorKind::Invalid,
        message,
    }
}

fn hello() -> Hello {
    let read = |path| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    Hello {
        protocol: PROTOCOL_VERSION,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: status::hostname(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
    }
}
