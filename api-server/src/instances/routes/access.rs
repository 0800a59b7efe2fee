//! `/1.0/instances/{name}/access`: who may do what. Everybody who reaches the unix socket may do everything, and Incus then
//! answers `null`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use crate::Daemon;
use crate::request::Project;
use crate::response::{self, Reply};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/instances/{name}/access", get(access))
}

async fn access(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    super::find(&daemon, &project, &name)?;
    Ok(response::sync(()))
}
