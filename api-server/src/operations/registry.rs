//! [`Operations`]: all operations of the daemon.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::StatusCode;
use serde_json::Value;
use uuid::Uuid;

use super::{Operation, OperationContext, OperationSpec};
use crate::ApiError;
use crate::events::EventHub;

/// How long an operation can be asked for after its end, as in Incus.
const KEEP: Duration = Duration::from_secs(5);

/// All operations. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Operations {
    known: Arc<Mutex<HashMap<Uuid, Operation>>>,
    hub: EventHub,
    keep: Duration,
}

impl Operations {
    /// No operations yet; their events go to `hub`.
    pub fn new(hub: EventHub) -> Self {
        Self {
            known: Arc::default(),
            hub,
            keep: KEEP,
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Uuid, Operation>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an operation. What `work` returns is put over its metadata. The operation runs to its end whether or
    /// not anybody waits for it; a panic in it is its failure and nobody else's.
    pub fn spawn<F, W>(&self, spec: OperationSpec, work: W) -> Operation
    where
        W: FnOnce(OperationContext) -> F,
        F: Future<Output = Result<Option<Value>, ApiError>> + Send + 'static,
    {
        let operation = self.register(spec);
        let task = tokio::spawn(work(OperationContext::new(operation.clone())));
        let registry = self.clone();
        let ending = operation.clone();
        tokio::spawn(async move {
            let outcome = match task.await {
                Ok(outcome) => outcome,
                Err(error) => Err(ApiError::internal(format!("operation ended early: {error}"))),
            };
            match outcome {
                Ok(metadata) => ending.end(StatusCode::Success, metadata, String::new()),
                Err(error) if ending.cancel_token().is_cancelled() => {
                    ending.end(StatusCode::Cancelled, None, error.message);
                }
                Err(error) => {
                    tracing::warn!(operation = %ending.id(), error = %error, "operation failed");
                    ending.end(StatusCode::Failure, None, error.message);
                }
            }
            registry.forget_later(ending.id()).await;
        });
        operation
    }

    /// Starts an operation without work: a secret that lives until it is cancelled.
    pub fn token(&self, spec: OperationSpec) -> Operation {
        let operation = self.register(spec);
        let registry = self.clone();
        let ending = operation.clone();
        tokio::spawn(async move {
            ending.wait().await;
            registry.forget_later(ending.id()).await;
        });
        operation
    }

    fn register(&self, spec: OperationSpec) -> Operation {
        let operation = Operation::new(spec, self.hub.clone());
        // Readable before anybody can hear of it.
        self.known().insert(operation.id(), operation.clone());
        operation.start();
        operation
    }

    async fn forget_later(&self, id: Uuid) {
        tokio::time::sleep(self.keep).await;
        self.known().remove(&id);
    }

    /// The operation with this id.
    pub fn get(&self, id: &str) -> Result<Operation, ApiError> {
        Uuid::parse_str(id)
            .ok()
            .and_then(|id| self.known().get(&id).cloned())
            .ok_or_else(|| ApiError::not_found("Operation"))
    }

    /// All operations of a project, or of all of them, in no order.
    pub fn list(&self, project: Option<&str>) -> Vec<Operation> {
        self.known()
            .values()
            .filter(|operation| project.is_none_or(|project| operation.project() == project))
            .cloned()
            .collect()
    }

    /// For the daemon's end: stops what can be stopped and waits, at most so long, for the rest.
    pub async fn shutdown(&self, patience: Duration) {
        let running: Vec<Operation> = self
            .list(None)
            .into_iter()
            .filter(|operation| !operation.status().is_final())
            .collect();
        for operation in &running {
            // Those that cannot be stopped are waited for.
            let _ = operation.cancel();
        }
        let all = async {
            for operation in &running {
                operation.wait().await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!(
                "operations still run at the daemon's end; the next start completes or undoes them"
            );
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
