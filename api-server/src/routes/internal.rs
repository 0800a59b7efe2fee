//! `/internal`: what `incus admin` asks.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, put};

use crate::{Daemon, response};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/internal/ready", get(ready))
        .route("/internal/shutdown", put(shutdown))
}

/// Who can ask is answered: requests are served once everything is there.
async fn ready() -> Response {
    response::empty()
}

/// Ends the daemon after this answer; instances run on.
async fn shutdown(State(daemon): State<Arc<Daemon>>) -> Response {
    tokio::spawn(async move {
        // Long enough for the answer to leave; a request in progress is finished in any case.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        daemon.stop.cancel();
    });
    response::empty()
}
