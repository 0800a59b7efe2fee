//! An interactive session over websockets: what `exec` and `console` share.

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::tungstenite::Message;

use crate::client::websocket::WebSocket;
use crate::client::{Client, escape};
use crate::error::{Error, Result};
use crate::terminal;

const CHUNK: usize = 32 << 10;

/// Opens the websocket `name` of the operation in `document`.
pub(super) async fn open(
    client: &Client,
    operation: &str,
    document: &Value,
    name: &str,
) -> Result<WebSocket> {
    let secret = document["metadata"]["fds"][name]
        .as_str()
        .ok_or_else(|| Error::protocol(operation, format!("the operation has no websocket '{name}'")))?;
    client
        .websocket(&format!("{operation}/websocket?secret={}", escape(secret)))
        .await
}

/// Sends what can be read until its end, which is told by an empty text frame.
pub(super) async fn send_input<R>(mut input: R, mut sink: SplitSink<WebSocket, Message>, detach: Option<u8>)
where
    R: tokio::io::AsyncRead + Unpin,
{
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = match input.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let data = match detach.and_then(|key| buffer[..read].iter().position(|byte| *byte == key)) {
            Some(at) => {
                let _ = sink.send(Message::binary(buffer[..at].to_vec())).await;
                break;
            }
            None => buffer[..read].to_vec(),
        };
        if sink.send(Message::binary(data)).await.is_err() {
            return;
        }
    }
    // The other side may have ended first; there is nobody left to tell.
    let _ = sink.send(Message::text("")).await;
}

/// Writes what comes until the stream's end.
pub(super) async fn receive_output<W>(mut source: SplitStream<WebSocket>, mut output: W)
where
    W: AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = source.next().await {
        let written = match message {
            Message::Binary(data) => output.write_all(&data).await,
            Message::Text(text) if text.is_empty() => break,
            Message::Text(text) => output.write_all(text.as_bytes()).await,
            Message::Close(_) => break,
            _ => continue,
        };
        if written.is_err() || output.flush().await.is_err() {
            break;
        }
    }
    let _ = output.flush().await;
}

/// Tells the other side about the terminal's size and, for a command without a terminal, about signals.
pub(super) async fn control(mut socket: WebSocket, forward_signals: bool) {
    let (Ok(mut resized), Ok(mut interrupt), Ok(mut terminate), Ok(mut quit), Ok(mut hangup)) = (
        signal(SignalKind::window_change()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::quit()),
        signal(SignalKind::hangup()),
    ) else {
        return;
    };
    if !forward_signals {
        let _ = socket.send(resize_message()).await;
    }
    loop {
        let message = tokio::select! {
            _ = resized.recv() => resize_message(),
            _ = interrupt.recv() => signal_message(libc::SIGINT),
            _ = terminate.recv() => signal_message(libc::SIGTERM),
            _ = quit.recv() => signal_message(libc::SIGQUIT),
            _ = hangup.recv() => signal_message(libc::SIGHUP),
            incoming = socket.next() => match incoming {
                Some(Ok(_)) => continue,
                _ => return,
            },
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

fn resize_message() -> Message {
    let (width, height) = terminal::size();
    Message::text(
        json!({ "command": "window-resize", "args": { "width": width.to_string(), "height": height.to_string() } })
            .to_string(),
    )
}

fn signal_message(number: i32) -> Message {
    Message::text(json!({ "command": "signal", "signal": number }).to_string())
}
