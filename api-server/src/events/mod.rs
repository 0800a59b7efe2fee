//! [`EventHub`]: what happens, for whoever listens on `/1.0/events`.
//!
//! Every part of the daemon tells the hub; each listener is a websocket with its own filter. An event is rendered
//! once, however many listen, and not at all when nobody does. A listener that cannot keep up is disconnected:
//! events are never reordered or silently dropped.

mod lifecycle;
mod listener;
mod logging;

use std::sync::Arc;

use axum::extract::ws::Utf8Bytes;
use serde_json::Value;
use tokio::sync::broadcast;

pub use lifecycle::Lifecycle;
pub use listener::{Filter, serve};
pub use logging::LoggingLayer;

/// Events that a slow listener may lag behind before it is disconnected. An unpacking image makes about ten events a
/// second, so this is minutes of not reading.
const BACKLOG: usize = 4096;

/// The three kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Something was made, changed or removed.
    Lifecycle,
    /// A log line.
    Logging,
    /// An operation began, made progress or ended.
    Operation,
}

impl EventKind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle",
            Self::Logging => "logging",
            Self::Operation => "operation",
        }
    }

    /// The kind with a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Lifecycle, Self::Logging, Self::Operation]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// An event as it is sent.
#[derive(Debug)]
struct Frame {
    kind: EventKind,
    /// Empty: belongs to no project and is shown to all listeners.
    project: String,
    text: Utf8Bytes,
}

/// Where events come together. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventHub {
    sender: broadcast::Sender<Arc<Frame>>,
}

impl Default for EventHub {
    fn default() -> Self {
        Self::new()
    }
}

impl EventHub {
    /// A hub that nobody listens to yet.
    pub fn new() -> Self {
        Self {
            sender: broadcast::channel(BACKLOG).0,
        }
    }

    /// Whether somebody listens.
    pub fn has_listeners(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    /// Tells that something was made, changed or removed.
    pub fn lifecycle(&self, lifecycle: Lifecycle) {
        tracing::debug!(
            action = lifecycle.action(),
            source = lifecycle.source(),
            "lifecycle"
        );
        if self.has_listeners() {
            let (project, metadata) = lifecycle.into_parts();
            self.send(EventKind::Lifecycle, &project, metadata);
        }
    }

    /// Tells where an operation stands.
    pub fn operation(&self, project: &str, operation: &api::Operation) {
        if self.has_listeners()
            && let Ok(metadata) = serde_json::to_value(operation)
        {
            self.send(EventKind::Operation, project, metadata);
        }
    }

    /// Passes on a log line.
    pub fn logging(&self, line: &api::EventLogging) {
        if self.has_listeners()
            && let Ok(metadata) = serde_json::to_value(line)
        {
            self.send(EventKind::Logging, "", metadata);
        }
    }

    fn send(&self, kind: EventKind, project: &str, metadata: Value) {
        let event = api::Event {
            kind: kind.as_str().to_owned(),
            timestamp: api::Timestamp::now(),
            metadata,
            location: api::LOCATION_NONE.to_owned(),
            project: project.to_owned(),
        };
        if let Ok(text) = serde_json::to_string(&event) {
            let frame = Frame {
                kind,
                project: project.to_owned(),
                text: text.into(),
            };
            // Fails only when the last listener has just left.
            let _ = self.sender.send(Arc::new(frame));
        }
    }
}
