//! One listener: a websocket with a filter.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{EventHub, EventKind, Frame};

/// How often a listener is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// What Incus puts into its pings.
const PING_PAYLOAD: &[u8] = b"keepalive";

/// What a listener wants to see.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Kinds of events.
    pub kinds: Vec<EventKind>,
    /// Only this project's and nobody's; `None` for all.
    pub project: Option<String>,
}

impl Filter {
    fn matches(&self, frame: &Frame) -> bool {
        self.kinds.contains(&frame.kind)
            && (frame.project.is_empty()
                || self
                    .project
                    .as_ref()
                    .is_none_or(|project| *project == frame.project))
    }
}

/// Sends events until the listener leaves, `stop` is cancelled, or it is too slow.
pub async fn serve(
    hub: EventHub,
    mut socket: WebSocket,
    filter: Filter,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut events = hub.sender.subscribe();
    let ping = || Message::Ping(PING_PAYLOAD.into());
    // The first ping comes before the first event, which a timer's first tick need not: a client that has it misses nothing.
    if socket.send(ping()).await.is_err() {
        return;
    }
    let mut time_to_ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let reason = loop {
        let message = tokio::select! {
            biased;
            () = stop.cancelled() => break Some((close_code::AWAY, "shutting down")),
            _ = time_to_ping.tick() => ping(),
            event = events.recv() => match event {
                Ok(frame) if filter.matches(&frame) => Message::Text(frame.text.clone()),
                Ok(_) => continue,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "event listener is too slow and was disconnected");
                    break Some((close_code::POLICY, "too slow"));
                }
                Err(RecvError::Closed) => break None,
            },
            // Pongs are read and dropped; so is anything else a client says here.
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break None,
                Some(Ok(_)) => continue,
            },
        };
        if socket.send(message).await.is_err() {
            return;
        }
    };
    if let Some((code, reason)) = reason {
        let _ = socket
            .send(Message::Close(Some(CloseFrame {
                code,
                reason: reason.into(),
            })))
            .await;
    }
}
