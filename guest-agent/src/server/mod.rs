//! The instance's side: serves one connection.
//!
//! Nothing here assumes a virtual machine: a container's agent process joins the container's namespaces and then
//! serves its socket pair with the same code.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::protocol::ProtocolError;

/// Serves one connection to its end. Runs on a current-thread runtime with I/O and time enabled.
pub async fn serve<S>(stream: S) -> Result<(), ProtocolError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _ = stream;
    todo!()
}
