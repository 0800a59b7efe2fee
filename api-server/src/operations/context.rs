//! [`OperationContext`]: what the work of an operation sees of it.

use axum::extract::ws::WebSocket;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Operation;
use crate::ApiError;

/// The operation from the inside. Cheap to clone; progress may be told from any thread.
#[derive(Debug, Clone)]
pub struct OperationContext {
    operation: Operation,
}

impl OperationContext {
    pub(super) fn new(operation: Operation) -> Self {
        Self { operation }
    }

    /// The operation itself.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Tells progress: an object that is put over the metadata. Told at most ten times a second.
    pub fn progress(&self, progress: Value) {
        self.operation.progress(progress);
    }

    /// Tells progress in percent the way Incus does, with a stage (`create_instance_from_image_unpack`) and a word
    /// for people (`Unpacking image`).
    pub fn progress_percent(&self, stage: &str, word: &str, percent: u64, bytes_per_second: u64) {
        self.progress(json!({
            format!("{stage}_progress"): format!("{word}: {percent}% ({}/s)", format_bytes(bytes_per_second)),
            "progress": {
                "percent": percent.to_string(),
                "speed": bytes_per_second.to_string(),
                "stage": stage,
            },
        }));
    }

    /// Replaces the metadata.
    pub fn set_metadata(&self, metadata: Value) {
        self.operation.set_metadata(Some(metadata));
    }

    /// Puts members over those of the metadata.
    pub fn merge_metadata(&self, metadata: Value) {
        self.operation.merge_metadata(metadata);
    }

    /// Becomes cancelled when a client stops the operation.
    pub fn cancelled(&self) -> CancellationToken {
        self.operation.cancel_token()
    }

    /// The websocket of this name, as soon as a client has connected it. Each can be fetched once.
    pub async fn websocket(&self, name: &str) -> Result<WebSocket, ApiError> {
        self.operation.socket(name).await
    }
}

/// Bytes as Incus shows them: decimal units with two digits.
pub(super) fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}
