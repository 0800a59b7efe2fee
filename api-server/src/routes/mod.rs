//! All endpoints. One module per kind of resource; each gives its routes.

mod certificates;
mod cluster;
mod events;
mod images;
mod internal;
mod metrics;
mod networks;
mod operations;
mod profiles;
mod projects;
mod resources;
mod server;
mod storage_pools;
mod volumes;
mod warnings;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use http::Method;

use crate::{ApiError, Daemon, instances};

/// The whole API.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .merge(server::routes())
        .merge(events::routes())
        .merge(operations::routes())
        .merge(internal::routes())
        .merge(profiles::routes())
        .merge(projects::routes())
        .merge(warnings::routes())
        .merge(certificates::routes())
        .merge(cluster::routes())
        .merge(networks::routes())
        .merge(storage_pools::routes())
        .merge(volumes::routes())
        .merge(images::routes())
        .merge(resources::routes())
        .merge(metrics::routes())
        .merge(instances::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(no_such_method)
        .with_state(daemon)
}

async fn not_found() -> ApiError {
    ApiError::new(http::StatusCode::NOT_FOUND, "not found")
}

/// Incus answers 404, not 405.
async fn no_such_method(method: Method) -> Result<Response, ApiError> {
    Err(ApiError::new(
        http::StatusCode::NOT_FOUND,
        format!("Method {:?} not found", method.as_str()),
    ))
}
