//! Running commands in instances: between a client's websockets and the agent inside.
//!
//! Websockets: `0`, `1`, `2` and `control` without a terminal, `0` and `control` with one. Data travels in binary frames, an empty
//! text frame ends a stream, control messages are JSON in text frames; the exit status becomes `return` in the metadata.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{InstanceExecControl, InstanceExecPost, Map};
use axum::extract::ws::{Message, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use guest_agent::client::{ExecControl, ExecEvent, ExecEvents, ExecInput};
use guest_agent::protocol::ExecRequest;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::agent;
use super::expand::Expanded;
use super::manager::Running;
use crate::operations::OperationContext;
use crate::{ApiError, Daemon};

/// How long a client may take to connect its websockets.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// How long a client may take to say goodbye after the end of the command.
const GOODBYE: Duration = Duration::from_secs(1);
/// Recorded output is cut at this size, so that a command cannot fill the host's disk.
const MAX_RECORDED: usize = 64 << 20;

/// Columns of a terminal whose client does not say.
const DEFAULT_WIDTH: u16 = 80;
/// Rows of a terminal whose client does not say.
const DEFAULT_HEIGHT: u16 = 25;

/// The websockets of a command.
pub(super) fn socket_names(post: &InstanceExecPost) -> &'static [&'static str] {
    if post.interactive {
        &["0", "control"]
    } else {
        &["0", "1", "2", "control"]
    }
}

/// The environment of a command: the instance's own variables, then the client's, and Incus' defaults for what is not set.
pub(super) fn environment(config: &Expanded, post: &InstanceExecPost) -> Map {
    let mut environment: Map = config
        .config
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("environment.")?.to_owned(), value.clone())))
        .collect();
    environment.extend(post.environment.clone());
    let mut default = |key: &str, value: &str| {
        environment
            .entry(key.to_owned())
            .or_insert_with(|| value.to_owned());
    };
    default(
        "PATH",
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    );
    default("LANG", "C.UTF-8");
    if post.user == 0 {
        default("HOME", "/root");
        default("USER", "root");
    }
    environment
}

fn request(post: InstanceExecPost, environment: Map, has_input: bool) -> ExecRequest {
    ExecRequest {
        command: post.command,
        environment,
        cwd: (!post.cwd.is_empty()).then_some(post.cwd),
        user: post.user,
        group: post.group,
        terminal: post.interactive,
        // A client that does not know its size gets a terminal all the same, and Incus' is this large.
        width: if post.interactive && post.width == 0 {
            DEFAULT_WIDTH
        } else {
            post.width
        },
        height: if post.interactive && post.height == 0 {
            DEFAULT_HEIGHT
        } else {
            post.height
        },
        stdin: has_input,
    }
}

/// Runs a command between websockets.
pub(super) async fn with_websockets(
    daemon: &Arc<Daemon>,
    running: &Arc<Running>,
    post: InstanceExecPost,
    environment: Map,
    context: &OperationContext,
) -> Result<Option<Value>, ApiError> {
    let interactive = post.interactive;
    let connected = async {
        let input = context.websocket("0").await?;
        let outputs = match interactive {
            true => None,
            false => Some((context.websocket("1").await?, context.websocket("2").await?)),
        };
        Ok::<_, ApiError>((input, outputs))
    };
    let (input, outputs) = tokio::time::timeout(CONNECT_PATIENCE, connected)
        .await
        .map_err(|_| ApiError::bad_request("Timed out waiting for websockets to connect"))??;

    let stream = agent::connect_patiently(daemon, running).await?;
    let started = guest_agent::client::exec(stream, request(post, environment, true)).await;
    let (stdin, control, events) = match started {
        Ok(stream) => stream.split(),
        Err(error) => return refused(&error, input, outputs).await,
    };
    // A client may do without its control socket, so its handling must not hold anything up.
    let controlling = tokio::spawn(handle_control(context.clone(), control));
    let (sink, source) = input.split();
    let feeding = tokio::spawn(feed(source, stdin));
    let (stdout, stderr) = match outputs {
        None => (Output::Shared(sink), None),
        Some((stdout, stderr)) => (Output::Own(Box::new(stdout)), Some(Output::Own(Box::new(stderr)))),
    };
    let status = drain(events, stdout, stderr).await;
    controlling.abort();
    feeding.abort();
    Ok(Some(json!({ "return": status? })))
}

/// What Incus does when a command cannot even be started: its status is that of a shell.
async fn refused(
    error: &guest_agent::client::ClientError,
    input: WebSocket,
    outputs: Option<(WebSocket, WebSocket)>,
) -> Result<Option<Value>, ApiError> {
    use guest_agent::client::ClientError;
    use guest_agent::protocol::ErrorKind;
    let answer = match error {
        ClientError::Refused(refusal) if refusal.kind == ErrorKind::NotFound => {
            Err(ApiError::bad_request("Command not found"))
        }
        ClientError::Refused(refusal) if refusal.kind == ErrorKind::Permission => {
            Err(ApiError::bad_request("Command not executable"))
        }
        _ => Err(agent::failed(error)),
    };
    let status = match error {
        ClientError::Refused(refusal) if refusal.kind == ErrorKind::NotFound => Some(127),
        ClientError::Refused(refusal) if refusal.kind == ErrorKind::Permission => Some(126),
        _ => None,
    };
    let mut sockets = vec![input];
    sockets.extend(
        outputs
            .map(|(stdout, stderr)| [stdout, stderr])
            .into_iter()
            .flatten(),
    );
    for socket in sockets {
        Output::Own(Box::new(socket)).finish().await;
    }
    match status {
        Some(status) => Ok(Some(json!({ "return": status }))),
        None => answer,
    }
}

/// Where output goes.
enum Output {
    Own(Box<WebSocket>),
    Shared(SplitSink<WebSocket, Message>),
}

impl Output {
    async fn send(&mut self, message: Message) -> bool {
        match self {
            Self::Own(socket) => socket.send(message).await.is_ok(),
            Self::Shared(sink) => sink.send(message).await.is_ok(),
        }
    }

    /// Ends the stream, and waits a moment for the client to close it.
    async fn finish(mut self) {
        let ended = async {
            if self.send(Message::Text(String::new().into())).await {
                self.send(Message::Close(None)).await;
                if let Self::Own(socket) = &mut self {
                    while let Some(Ok(_)) = socket.recv().await {}
                }
            }
        };
        // One that is gone does not matter any more.
        let _ = tokio::time::timeout(GOODBYE, ended).await;
    }
}

/// Passes output on until the command has ended; returns its status. A client that has gone away does not stop the command:
/// that is what its control socket is for.
async fn drain(mut events: ExecEvents, stdout: Output, stderr: Option<Output>) -> Result<i32, ApiError> {
    let mut stdout = Some(stdout);
    let mut stderr = stderr;
    let status = loop {
        let event = events
            .next()
            .await
            .unwrap_or(Err(guest_agent::client::ClientError::Closed));
        match event {
            Ok(ExecEvent::Stdout(data)) if !data.is_empty() => pass(&mut stdout, data).await,
            Ok(ExecEvent::Stderr(data)) if !data.is_empty() => pass(&mut stderr, data).await,
            Ok(ExecEvent::Stdout(_) | ExecEvent::Stderr(_)) => {}
            Ok(ExecEvent::Exit(status)) => break Ok(status),
            Err(error) => break Err(agent::failed(&error)),
        }
    };
    let finish = |output: Option<Output>| async move {
        if let Some(output) = output {
            output.finish().await;
        }
    };
    futures::join!(finish(stdout), finish(stderr));
    status
}

async fn pass(output: &mut Option<Output>, data: bytes::Bytes) {
    if let Some(open) = output
        && !open.send(Message::Binary(data)).await
    {
        *output = None;
    }
}

/// Passes a client's input on until it ends.
async fn feed(mut source: SplitStream<WebSocket>, mut stdin: ExecInput) {
    while let Some(Ok(message)) = source.next().await {
        match message {
            Message::Binary(data) => {
                if stdin.write(data).await.is_err() {
                    return;
                }
            }
            // Any text frame ends the stream; Incus' clients send an empty one.
            Message::Text(_) | Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    // Fails only when the command has ended.
    let _ = stdin.close().await;
    // Whoever has ended its input may still be listening to the output on the same socket.
    while let Some(Ok(_)) = source.next().await {}
}

/// Obeys a client's control messages. A client whose control socket breaks has gone away, and its command with it.
async fn handle_control(context: OperationContext, control: ExecControl) {
    let Ok(mut socket) = context.websocket("control").await else {
        return;
    };
    while let Some(Ok(message)) = socket.recv().await {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => break,
            _ => continue,
        };
        let done = match serde_json::from_str::<InstanceExecControl>(&text) {
            Ok(message) => obey(&message, &control).await,
            Err(error) => {
                tracing::debug!(%error, "control message is not understood");
                Ok(())
            }
        };
        if done.is_err() {
            return;
        }
    }
    let _ = control.signal(libc::SIGKILL).await;
}

async fn obey(
    message: &InstanceExecControl,
    control: &ExecControl,
) -> Result<(), guest_agent::client::ClientError> {
    match message.command.as_str() {
        "window-resize" => match window_size(&message.args) {
            Some((width, height)) => control.resize(width, height).await,
            None => Ok(()),
        },
        "signal" => control.signal(message.signal).await,
        _ => Ok(()),
    }
}

/// Size of a window in a `window-resize` message, whose numbers are texts.
pub(super) fn window_size(args: &Map) -> Option<(u16, u16)> {
    let number = |key: &str| args.get(key)?.parse().ok();
    Some((number("width")?, number("height")?))
}

/// Where recorded output goes.
#[derive(Debug, Clone)]
pub(super) struct Recording {
    /// The folder, which is made if it is missing.
    pub folder: PathBuf,
    /// URL of the folder.
    pub url: String,
}

/// Runs a command without websockets.
pub(super) async fn without_websockets(
    daemon: &Arc<Daemon>,
    running: &Arc<Running>,
    post: InstanceExecPost,
    environment: Map,
    recording: Option<Recording>,
    context: &OperationContext,
) -> Result<Option<Value>, ApiError> {
    let stream = agent::connect_patiently(daemon, running).await?;
    let started = guest_agent::client::exec(stream, request(post, environment, false)).await;
    let (stdin, _control, mut events) = started.map_err(|error| agent::failed(&error))?.split();
    drop(stdin);
    let mut files = match &recording {
        Some(recording) => {
            tokio::fs::create_dir_all(&recording.folder).await?;
            let id = context.operation().id();
            let open =
                |name: &str| tokio::fs::File::create(recording.folder.join(format!("exec_{id}.{name}")));
            Some((open("stdout").await?, open("stderr").await?, 0))
        }
        None => None,
    };
    let status = loop {
        let event = events
            .next()
            .await
            .unwrap_or(Err(guest_agent::client::ClientError::Closed));
        match (event.map_err(|error| agent::failed(&error))?, &mut files) {
            (ExecEvent::Exit(status), _) => break status,
            (ExecEvent::Stdout(data), Some((file, _, size))) if *size + data.len() <= MAX_RECORDED => {
                *size += data.len();
                file.write_all(&data).await?;
            }
            (ExecEvent::Stderr(data), Some((_, file, size))) if *size + data.len() <= MAX_RECORDED => {
                *size += data.len();
                file.write_all(&data).await?;
            }
            _ => {}
        }
    };
    let Some((mut stdout, mut stderr, _)) = files else {
        return Ok(Some(json!({ "return": status })));
    };
    stdout.flush().await?;
    stderr.flush().await?;
    let url = recording.map(|recording| recording.url).unwrap_or_default();
    let id = context.operation().id();
    let output = json!({ "1": format!("{url}/exec_{id}.stdout"), "2": format!("{url}/exec_{id}.stderr") });
    Ok(Some(json!({ "output": output, "return": status })))
}
