//! The daemon's side of the conversation: one call per connection, over any byte stream.
//!
//! A caller connects first (to the VM's vsock socket and then [`connect_vsock`], or to the socket pair of a
//! container's agent) and hands the stream to one of the functions here, which uses it up. None of them limits
//! its time; callers wrap them in `tokio::time::timeout` where the instance may not answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use russh_sftp::client::SftpSession;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, FramedWrite};

use crate::protocol::{
    AgentError, Control, ExecRequest, Frame, FrameCodec, Hello, MAX_DATA, ProtocolError, Request, Response,
    ResponseBody, STDIN_WINDOW, ShutdownAction, read_frame, write_frame,
};
use crate::state::GuestState;

/// Frames that wait for the connection or for the caller; small, so that slow readers slow the command down.
const QUEUE: usize = 8;

/// Why a call to an agent failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The agent refused.
    #[error("the agent refused: {0}")]
    Refused(#[from] AgentError),
    /// The other end does not keep to the protocol, or the connection failed.
    #[error("the connection to the agent failed: {0}")]
    Protocol(#[from] ProtocolError),
    /// The connection ended in the middle of a conversation.
    #[error("the agent closed the connection: the instance may be stopping")]
    Closed,
    /// The VM's vsock device has nobody listening on the port.
    #[error("no agent answers on vsock port {port}: {answer:?}")]
    NoAgent {
        /// Port asked for.
        port: u32,
        /// What the device said, if anything.
        answer: String,
    },
    /// The SFTP session did not come up.
    #[error("sftp session with the agent failed")]
    Sftp(#[source] russh_sftp::client::error::Error),
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        Self::Protocol(error.into())
    }
}

/// Asks a VM's vsock device for a port of the guest (`CONNECT <port>`, answered by `OK <host port>`).
pub async fn connect_vsock<S>(mut stream: S, port: u32) -> Result<S, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // The answer is at most "OK 4294967295\n". It is read byte by byte: what follows it is the guest's.
    const LONGEST: usize = 32;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(LONGEST);
    while answer.len() < LONGEST {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            break;
        }
        if byte[0] == b'\n' {
            if answer.starts_with(b"OK ") {
                return Ok(stream);
            }
            break;
        }
        answer.push(byte[0]);
    }
    Err(ClientError::NoAgent {
        port,
        answer: String::from_utf8_lossy(&answer).into_owned(),
    })
}

/// Asks who is there.
pub async fn hello<S>(mut stream: S) -> Result<Hello, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    match call(&mut stream, Request::Hello).await? {
        ResponseBody::Hello(hello) => Ok(hello),
        _ => Err(ProtocolError::Unexpected("response").into()),
    }
}

/// Asks how the instance is.
pub async fn state<S>(mut stream: S) -> Result<GuestState, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    match call(&mut stream, Request::State).await? {
        ResponseBody::State(state) => Ok(*state),
        _ => Err(ProtocolError::Unexpected("response").into()),
    }
}

/// Asks the instance to end in an orderly way; returns when the request is accepted, not when it has ended.
pub async fn shutdown<S>(mut stream: S, action: ShutdownAction) -> Result<(), ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    call(&mut stream, Request::Shutdown { action }).await.map(drop)
}

/// Turns the connection into an SFTP session and returns the raw stream, for instance to pass it on to a client
/// of the REST API.
pub async fn sftp<S>(mut stream: S) -> Result<S, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    call(&mut stream, Request::Sftp).await?;
    Ok(stream)
}

/// As [`sftp`], with russh's client on it. Make links with [`symlink`].
pub async fn sftp_session<S>(stream: S) -> Result<SftpSession, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    SftpSession::new(sftp(stream).await?)
        .await
        .map_err(ClientError::Sftp)
}

/// Makes the symbolic link `link` that points to `target`.
///
/// The agent expects the order of arguments that OpenSSH made a fact (its PROTOCOL file, section 4.1: target
/// first), as do all clients in use; russh's client sends the order of the draft.
pub async fn symlink(
    session: &SftpSession,
    link: &str,
    target: &str,
) -> Result<(), russh_sftp::client::error::Error> {
    session.symlink(target, link).await
}

/// Runs a command.
pub async fn exec<S>(mut stream: S, request: ExecRequest) -> Result<ExecStream, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    call(&mut stream, Request::Exec(request)).await?;
    let (read, write) = tokio::io::split(stream);
    let (frames, outgoing) = mpsc::channel(QUEUE);
    let (arrived, events) = mpsc::channel(QUEUE);
    let window = Arc::new(Semaphore::new(STDIN_WINDOW as usize));
    let writer = tokio::spawn(send_frames(FramedWrite::new(write, FrameCodec), outgoing));
    let reader = tokio::spawn(receive_frames(
        FramedRead::new(read, FrameCodec),
        arrived,
        Arc::clone(&window),
    ));
    Ok(ExecStream {
        stdin: ExecInput {
            frames: frames.clone(),
            window,
            open: true,
        },
        control: ExecControl { frames },
        events: ExecEvents {
            events,
            tasks: [writer, reader],
        },
    })
}

/// Sends the request and waits for its answer.
async fn call<S>(stream: &mut S, request: Request) -> Result<ResponseBody, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    write_frame(stream, &Frame::Request(request)).await?;
    match read_frame(stream).await? {
        Some(Frame::Response(Response::Ok(body))) => Ok(body),
        Some(Frame::Response(Response::Error(error))) => Err(error.into()),
        Some(other) => Err(ProtocolError::Unexpected(other.name()).into()),
        None => Err(ClientError::Closed),
    }
}

/// Passes frames on to the connection until the command's handles are gone or the connection is.
async fn send_frames<W>(mut sink: FramedWrite<W, FrameCodec>, mut frames: mpsc::Receiver<Frame>)
where
    W: AsyncWrite + Unpin,
{
    while let Some(frame) = frames.recv().await {
        if sink.send(frame).await.is_err() {
            return; // the reader finds out why
        }
    }
}

/// Sorts what arrives into events and window grants, until the exit status.
async fn receive_frames<R>(
    mut source: FramedRead<R, FrameCodec>,
    events: mpsc::Sender<Result<ExecEvent, ClientError>>,
    window: Arc<Semaphore>,
) where
    R: AsyncRead + Unpin,
{
    loop {
        let event = match source.next().await {
            Some(Ok(Frame::Stdout(data))) => Ok(ExecEvent::Stdout(data)),
            Some(Ok(Frame::Stderr(data))) => Ok(ExecEvent::Stderr(data)),
            Some(Ok(Frame::Exit(exit))) => Ok(ExecEvent::Exit(exit.status)),
            Some(Ok(Frame::Control(Control::StdinWindow { bytes }))) => {
                let room = Semaphore::MAX_PERMITS - window.available_permits();
                window.add_permits((bytes as usize).min(room));
                continue;
            }
            Some(Ok(other)) => Err(ProtocolError::Unexpected(other.name()).into()),
            Some(Err(error)) => Err(error.into()),
            None => Err(ClientError::Closed),
        };
        let last = matches!(event, Ok(ExecEvent::Exit(_)) | Err(_));
        if last {
            window.close(); // nobody reads standard input any more
        }
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

/// A running command: three handles that go separate ways.
#[derive(Debug)]
pub struct ExecStream {
    /// Its standard input.
    pub stdin: ExecInput,
    /// Signals and terminal size.
    pub control: ExecControl,
    /// Its output and exit status. The connection ends, and with it the command, when this is dropped.
    pub events: ExecEvents,
}

impl ExecStream {
    /// Takes it apart.
    pub fn split(self) -> (ExecInput, ExecControl, ExecEvents) {
        (self.stdin, self.control, self.events)
    }
}

/// What a command says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecEvent {
    /// Output (with a terminal, all output); empty when there will be no more.
    Stdout(Bytes),
    /// Error output; empty when there will be no more.
    Stderr(Bytes),
    /// It ended with this status. Nothing follows.
    Exit(i32),
}

/// Standard input of a running command.
#[derive(Debug)]
pub struct ExecInput {
    frames: mpsc::Sender<Frame>,
    window: Arc<Semaphore>,
    open: bool,
}

impl ExecInput {
    /// Sends data; waits while the command does not read. [`ClientError::Closed`] once it has ended.
    pub async fn write(&mut self, data: impl Into<Bytes>) -> Result<(), ClientError> {
        let mut data = data.into();
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(MAX_DATA));
            let len = chunk.len() as u32;
            let permit = self
                .window
                .acquire_many(len)
                .await
                .map_err(|_| ClientError::Closed)?;
            permit.forget(); // the agent gives the bytes back when the command has read them
            self.frames
                .send(Frame::Stdin(chunk))
                .await
                .map_err(|_| ClientError::Closed)?;
        }
        Ok(())
    }

    /// Tells the command that its input has ended. Dropping does the same, in the background.
    pub async fn close(mut self) -> Result<(), ClientError> {
        self.open = false;
        self.frames
            .send(Frame::Stdin(Bytes::new()))
            .await
            .map_err(|_| ClientError::Closed)
    }
}

impl Drop for ExecInput {
    fn drop(&mut self) {
        if self.open
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let frames = self.frames.clone();
            runtime.spawn(async move { frames.send(Frame::Stdin(Bytes::new())).await });
        }
    }
}

/// Control of a running command.
#[derive(Debug, Clone)]
pub struct ExecControl {
    frames: mpsc::Sender<Frame>,
}

impl ExecControl {
    /// Gives the terminal a new size; without a terminal it has no effect.
    pub async fn resize(&self, width: u16, height: u16) -> Result<(), ClientError> {
        self.send(Control::Resize { width, height }).await
    }

    /// Sends a signal to the command.
    pub async fn signal(&self, signal: i32) -> Result<(), ClientError> {
        self.send(Control::Signal { signal }).await
    }

    async fn send(&self, control: Control) -> Result<(), ClientError> {
        self.frames
            .send(Frame::Control(control))
            .await
            .map_err(|_| ClientError::Closed)
    }
}

/// Output and exit status of a running command. Also a [`futures::Stream`].
#[derive(Debug)]
pub struct ExecEvents {
    events: mpsc::Receiver<Result<ExecEvent, ClientError>>,
    tasks: [JoinHandle<()>; 2],
}

impl ExecEvents {
    /// The next event; `None` after the exit status or an error. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<ExecEvent, ClientError>> {
        self.events.recv().await
    }

    /// Collects everything until the end: output, error output, status. For commands with little to say.
    pub async fn collect(mut self) -> Result<(Vec<u8>, Vec<u8>, i32), ClientError> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.next().await.ok_or(ClientError::Closed)?? {
                ExecEvent::Stdout(data) => stdout.extend_from_slice(&data),
                ExecEvent::Stderr(data) => stderr.extend_from_slice(&data),
                ExecEvent::Exit(status) => return Ok((stdout, stderr, status)),
            }
        }
    }
}

impl futures::Stream for ExecEvents {
    type Item = Result<ExecEvent, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx)
    }
}

impl Drop for ExecEvents {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
