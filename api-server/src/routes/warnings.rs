//! `/1.0/warnings`.

use std::sync::Arc;

use api::{Warning, WarningPut};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;

use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::request::{IfMatch, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Document, Revision, get_as, keys, list_as, put_as};
use crate::update::Update;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/warnings", get(list)).route(
        "/1.0/warnings/{id}",
        get(show).put(update).patch(update).delete(remove),
    )
}

fn find(daemon: &Daemon, id: &str) -> Result<(Warning, Document), ApiError> {
    get_as(&*daemon.store, &keys::warning(id))?.ok_or_else(|| ApiError::not_found("Warning"))
}

async fn list(State(daemon): State<Arc<Daemon>>, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let project = query.get_non_empty("project");
    let items = list_as::<Warning>(&*daemon.store, keys::WARNINGS)?
        .into_iter()
        .filter(|(warning, _)| {
            project.is_none_or(|project| warning.project.is_empty() || warning.project == project)
        })
        .map(|(warning, _)| (format!("/1.0/warnings/{}", warning.uuid), warning))
        .collect();
    listing.reply(items)
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Reply {
    let (warning, document) = find(&daemon, &id)?;
    Ok(response::sync_etag(warning, &document.etag()))
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    if_match: IfMatch,
    Path(id): Path<String>,
    update: Update,
) -> Reply {
    let (mut warning, document) = find(&daemon, &id)?;
    let expect = if_match.check(&document)?;
    let put: WarningPut = update.over(&warning)?;
    let action = match put.status.as_str() {
        "acknowledged" => "warning-acknowledged",
        "new" => "warning-reset",
        _ => {
            return Err(ApiError::bad_request(
                "Status may only be set to acknowledge or new",
            ));
        }
    };
    warning.status = put.status;
    put_as(&*daemon.store, &keys::warning(&id), &warning, expect)?;
    daemon
        .events
        .lifecycle(Lifecycle::new(action, format!("/1.0/warnings/{id}")).requestor(&requestor));
    Ok(response::empty())
}

async fn remove(State(daemon): State<Arc<Daemon>>, requestor: Requestor, Path(id): Path<String>) -> Reply {
    let (_, document) = find(&daemon, &id)?;
    daemon
        .store
        .delete(&keys::warning(&id), Revision::Exact(document.revision()))?;
    daemon
        .events
        .lifecycle(Lifecycle::new("warning-deleted", format!("/1.0/warnings/{id}")).requestor(&requestor));
    Ok(response::empty())
}
