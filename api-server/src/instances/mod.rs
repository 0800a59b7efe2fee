//! Instances: containers and virtual machines.

use std::sync::Arc;

use axum::Router;

use crate::paths::StatePaths;
use crate::{ApiError, Daemon};

/// Everything about instances that is not in the store.
#[derive(Debug)]
pub struct Manager {}

impl Manager {
    /// A manager that knows of nothing yet.
    pub fn new(paths: &StatePaths) -> Self {
        let _ = paths;
        Self {}
    }

    /// Adopts what runs and completes or undoes what was begun. Called once, before requests are served.
    pub async fn recover(&self, daemon: &Arc<Daemon>) -> Result<(), ApiError> {
        let _ = daemon;
        Ok(())
    }

    /// The daemon ends; instances run on.
    pub async fn shutdown(&self) {}
}

/// Endpoints below `/1.0/instances`.
pub fn routes() -> Router<Arc<Daemon>> {
    Router::new()
}
