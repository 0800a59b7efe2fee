//! Consoles: a client's websocket joined to the byte stream of an instance's terminal or serial line.

use std::sync::Arc;

use api::{InstanceConsolePost, InstanceExecControl};
use axum::extract::ws::{Message, WebSocket};
use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::exec;
use super::manager::{Running, blocking};
use crate::operations::OperationContext;
use crate::{ApiError, Daemon};

/// What is read from the console at once.
const CHUNK: usize = 16 << 10;

/// Joins a client's websockets to the console until one of both ends.
pub(super) async fn attach(
    daemon: &Arc<Daemon>,
    running: &Arc<Running>,
    post: &InstanceConsolePost,
    context: &OperationContext,
) -> Result<Option<Value>, ApiError> {
    let socket = context.websocket("0").await?;
    let path = running.run_dir.join("console.sock");
    let stream = blocking(move || {
        let stream = guest_agent::socket::connect(&path)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    })
    .await
    .map_err(|error| error.context("Failed to reach the console"))?;
    let console = UnixStream::from_std(stream)?;
    resize(daemon, running, post.width, post.height).await;
    let controlling = tokio::spawn(handle_control(
        Arc::clone(daemon),
        Arc::clone(running),
        context.clone(),
    ));
    let cancelled = context.cancelled();
    tokio::select! {
        () = join(socket, console) => {}
        () = cancelled.cancelled() => {}
    }
    controlling.abort();
    Ok(None)
}

async fn join(socket: WebSocket, console: UnixStream) {
    let (mut sink, mut source) = socket.split();
    let (mut reader, mut writer) = console.into_split();
    let outward = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(len) => {
                    let data = bytes::Bytes::copy_from_slice(&buffer[..len]);
                    if sink.send(Message::Binary(data)).await.is_err() {
                        break;
                    }
                }
            }
        }
        // The client learns that there will be no more; whether it hears it is its own business.
        let _ = sink.send(Message::Text(String::new().into())).await;
        let _ = sink.send(Message::Close(None)).await;
    };
    let inward = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(data) if writer.write_all(&data).await.is_ok() => {}
                Message::Ping(_) | Message::Pong(_) => {}
                // Any text frame ends the stream, and so does a console that is gone.
                Message::Binary(_) | Message::Text(_) | Message::Close(_) => break,
            }
        }
    };
    tokio::select! {
        () = outward => {}
        () = inward => {}
    }
}

async fn resize(daemon: &Arc<Daemon>, running: &Arc<Running>, width: u16, height: u16) {
    if width == 0 || height == 0 {
        return;
    }
    let run_dir = running.run_dir.clone();
    let done = daemon
        .instances
        .with_driver(running.kind, move |driver| {
            driver.console_size(&run_dir, width, height)
        })
        .await;
    if let Err(error) = done {
        tracing::debug!(%error, "the console keeps its size");
    }
}

async fn handle_control(daemon: Arc<Daemon>, running: Arc<Running>, context: OperationContext) {
    let Ok(mut socket) = context.websocket("control").await else {
        return;
    };
    while let Some(Ok(message)) = socket.recv().await {
        let Message::Text(text) = message else { continue };
        if let Ok(message) = serde_json::from_str::<InstanceExecControl>(&text)
            && message.command == "window-resize"
            && let Some((width, height)) = exec::window_size(&message.args)
        {
            resize(&daemon, &running, width, height).await;
        }
    }
}
