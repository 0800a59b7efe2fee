//! `/1.0/operations`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::operations::Operation;
use crate::request::{Project, Query, Upgrade};
use crate::response::{self, Reply};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/operations", get(list))
        .route("/1.0/operations/{id}", get(show).delete(cancel))
        .route("/1.0/operations/{id}/wait", get(wait))
        .route("/1.0/operations/{id}/websocket", get(websocket))
}

/// Operations by status: `{"running": [...], "success": [...]}`.
async fn list(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let project = (!query.is_true("all-projects")).then_some(project.0);
    let mut by_status: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for operation in daemon.operations.list(project.as_deref()) {
        let rendered = operation.render();
        let shown = if query.recursion() == 0 {
            json!(operation.url())
        } else {
            serde_json::to_value(&rendered)?
        };
        by_status
            .entry(rendered.status.to_lowercase())
            .or_default()
            .push(shown);
    }
    Ok(response::sync(by_status))
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Reply {
    Ok(response::sync(daemon.operations.get(&id)?.render()))
}

async fn cancel(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Reply {
    daemon.operations.get(&id)?.cancel()?;
    Ok(response::empty())
}

/// Answers when the operation has ended, or after `timeout` seconds with where it stands then. Headers are sent at
/// once, as Incus does it, so that clients do not give up on a silent server.
async fn wait(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>, query: Query) -> Reply {
    let timeout: i64 = match query.get_non_empty("timeout") {
        None => -1,
        Some(text) => text
            .parse()
            .map_err(|_| ApiError::bad_request(format!("Invalid timeout {text:?}")))?,
    };
    let operation = daemon.operations.get(&id)?;
    if operation.status().is_final() {
        return Ok(response::sync(operation.render()));
    }
    let body = Body::from_stream(stream::once(wait_body(operation, timeout)));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    Ok(response)
}

async fn wait_body(operation: Operation, timeout: i64) -> Result<Bytes, axum::Error> {
    match u64::try_from(timeout) {
        Ok(seconds) => drop(tokio::time::timeout(Duration::from_secs(seconds), operation.wait()).await),
        Err(_) => operation.wait().await,
    }
    Ok(response::sync(operation.render())
        .into_body()
        .collect()
        .await?
        .to_bytes())
}

/// One of an operation's websockets; the secret says which.
async fn websocket(
    State(daemon): State<Arc<Daemon>>,
    Path(id): Path<String>,
    query: Query,
    upgrade: Upgrade,
) -> Response {
    let place = daemon.operations.get(&id).and_then(|operation| {
        let secret = query
            .get_non_empty("secret")
            .ok_or_else(|| ApiError::bad_request("Missing websocket secret"))?;
        operation.socket_place(secret)
    });
    match place {
        Ok(place) => upgrade.0.on_upgrade(move |socket| async move {
            // Fails when the operation has ended in between; the socket closes with that.
            drop(place.send(socket));
        }),
        Err(error) => error.into_response(),
    }
}
