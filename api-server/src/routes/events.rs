//! `/1.0/events`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::events::{EventKind, Filter, serve};
use crate::request::{Project, Query, Upgrade};
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/events", get(events))
}

async fn events(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    upgrade: Upgrade,
) -> Response {
    match filter(&project, &query) {
        Ok(filter) => {
            let (hub, stop) = (daemon.events.clone(), daemon.stop.clone());
            let listening = daemon.listeners.token();
            upgrade.0.on_upgrade(move |socket| async move {
                tracing::debug!("Event listener server handler started");
                serve(hub, socket, filter, stop).await;
                drop(listening);
            })
        }
        Err(error) => error.into_response(),
    }
}

fn filter(project: &Project, query: &Query) -> Result<Filter, ApiError> {
    let all = query.is_true("all-projects");
    if all && query.get_non_empty("project").is_some() {
        return Err(ApiError::bad_request(
            "Cannot specify a project when requesting all projects",
        ));
    }
    let kinds = match query.get_non_empty("type") {
        None => vec![EventKind::Logging, EventKind::Operation, EventKind::Lifecycle],
        Some(words) => words
            .split(',')
            .map(|word| {
                EventKind::parse(word)
                    .ok_or_else(|| ApiError::bad_request(format!("{word:?} isn't a supported event type")))
            })
            .collect::<Result<_, _>>()?,
    };
    Ok(Filter {
        kinds,
        project: (!all).then(|| project.0.clone()),
    })
}
