//! `/1.0/resources`: what the host is made of.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::response::{self, Reply};
use crate::{Daemon, resources};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/resources", get(show))
}

async fn show() -> Reply {
    // Hundreds of small files below /sys.
    Ok(response::sync(
        tokio::task::spawn_blocking(resources::read).await?,
    ))
}
