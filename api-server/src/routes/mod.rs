//! All endpoints. One module per kind of resource; each gives its routes.

use std::sync::Arc;

use axum::Router;

use crate::{Daemon, instances};

/// The whole API.
pub fn router(daemon: Arc<Daemon>) -> Router {
    Router::new().merge(instances::routes()).with_state(daemon)
}
