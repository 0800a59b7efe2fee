//! `/1.0/cluster`: this host is in none.

use std::sync::Arc;

use api::{Cluster, ClusterMemberConfigKey};
use axum::Router;
use axum::extract::State;
use axum::routing::get;

use crate::response::{self, Reply};
use crate::store::keys;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/cluster", get(show).put(change))
        .route("/1.0/cluster/members", get(not_clustered))
        .route("/1.0/cluster/groups", get(not_clustered))
}

/// What a joining host would have to tell: the source of each pool.
async fn show(State(daemon): State<Arc<Daemon>>) -> Reply {
    let pools = daemon.store.list(keys::STORAGE_POOLS)?;
    let member_config = pools
        .iter()
        .map(|pool| ClusterMemberConfigKey {
            entity: "storage-pool".to_owned(),
            name: pool.name().to_owned(),
            key: "source".to_owned(),
            value: String::new(),
            description: format!("\"source\" property for storage pool {:?}", pool.name()),
        })
        .collect();
    Ok(response::sync(Cluster {
        server_name: String::new(),
        enabled: false,
        member_config,
    }))
}

async fn change() -> Reply {
    Err(ApiError::not_implemented(
        "This server does not support clustering",
    ))
}

async fn not_clustered() -> Reply {
    Err(ApiError::bad_request("This server is not clustered"))
}
