//! `/1.0/instances`: the list, new instances, and the state of all of them at once.

use std::sync::Arc;

use api::{InstanceFull, InstancesPost, InstancesPut};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use futures::StreamExt;
use serde_json::Value;

use super::super::record::{self, InstanceRecord};
use super::super::{create, expand, state};
use super::state::{Change, change_state};
use crate::listing::Listing;
use crate::operations::OperationSpec;
use crate::request::{JsonBody, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::Document;
use crate::{ApiError, Daemon};

/// Instances whose state is changed at the same time by one request.
const TOGETHER: usize = 16;

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new().route("/1.0/instances", get(list).post(create_one).put(change_all))
}

/// An instance as the API shows it.
pub(super) fn render(daemon: &Daemon, record: &InstanceRecord) -> Result<api::Instance, ApiError> {
    let expanded = expand::expand(&*daemon.store, record)?;
    let status = daemon.instances.status(&record.project, &record.name);
    Ok(record.render(expanded.config, expanded.devices, status))
}

/// An instance with state and snapshots.
pub(super) fn full(
    daemon: &Daemon,
    record: &InstanceRecord,
    state: api::InstanceState,
) -> Result<InstanceFull, ApiError> {
    let snapshots = record::snapshots(&*daemon.store, &record.project, &record.name)?;
    Ok(InstanceFull {
        instance: render(daemon, record)?,
        backups: None,
        state: Some(state),
        snapshots: (!snapshots.is_empty())
            .then(|| snapshots.iter().map(record::SnapshotRecord::render).collect()),
    })
}

async fn list(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let project = (!query.is_true("all-projects")).then_some(project.0.as_str());
    let wanted = query
        .get_non_empty("instance-type")
        .map(super::super::validate::kind)
        .transpose()?;
    let records: Vec<InstanceRecord> = record::all(&*daemon.store, project)?
        .into_iter()
        .map(|(record, _): (InstanceRecord, Document)| record)
        .filter(|record| wanted.is_none_or(|kind| record.kind == kind))
        .collect();
    if listing.wants_only_urls() {
        return Ok(response::sync(
            records.iter().map(InstanceRecord::url).collect::<Vec<_>>(),
        ));
    }
    if listing.recursion() < 2 {
        let items: Result<Vec<_>, ApiError> = records
            .iter()
            .map(|record| Ok((record.url(), render(&daemon, record)?)))
            .collect();
        return listing.reply(items?);
    }
    // What the filter leaves out need not be asked for its state, unless the filter is about that.
    let states = state::states(&daemon, &records).await?;
    let items: Result<Vec<_>, ApiError> = records
        .iter()
        .zip(states)
        .map(|(record, state)| Ok((record.url(), full(&daemon, record, state)?)))
        .collect();
    listing.reply(items?)
}

async fn create_one(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    query: Query,
    requestor: Requestor,
    JsonBody(post): JsonBody<InstancesPost>,
) -> Reply {
    if query
        .get_non_empty("target")
        .is_some_and(|target| target != "none")
    {
        return Err(ApiError::bad_request("Target only allowed when clustered"));
    }
    let new = create::check(&daemon, &project, post)?;
    let mut spec = super::task("Creating instance", new.project(), new.name());
    if let Some(source) = new.source_url() {
        spec = spec.resource("instances", source);
    }
    let worker = Arc::clone(&daemon);
    let operation = daemon.operations.spawn(spec, move |context| async move {
        create::create(&worker, new, &requestor, &context).await
    });
    Ok(response::async_op(&operation))
}

/// Changes the state of all instances of a project that are not in it already.
async fn change_all(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    JsonBody(put): JsonBody<InstancesPut>,
) -> Reply {
    let wanted = put.state.ok_or_else(|| ApiError::bad_request("Missing state"))?;
    let change = Change::parse(&wanted)?;
    let records = record::all(&*daemon.store, Some(&project.0))?;
    let mut spec = OperationSpec::task(change.plural_description()).project(&project.0);
    let mut names = Vec::new();
    for (record, _) in records {
        if change.concerns(daemon.instances.status(&record.project, &record.name)) {
            spec = spec.resource("instances", format!("/1.0/instances/{}", record.name));
            names.push(record.name);
        }
    }
    let worker = Arc::clone(&daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let results: Vec<Result<(), ApiError>> = futures::stream::iter(names)
            .map(|name| {
                let (daemon, change, project, who) = (&worker, &change, &project.0, &requestor);
                async move {
                    let lock = super::lock(daemon, project, &name, change.word())?;
                    change_state(daemon, &lock, change, who)
                        .await
                        .map_err(|error| error.context(format!("Failed for instance {name:?}")))
                }
            })
            .buffer_unordered(TOGETHER)
            .collect()
            .await;
        let failures: Vec<String> = results
            .into_iter()
            .filter_map(Result::err)
            .map(|error| error.message)
            .collect();
        if failures.is_empty() {
            Ok(None::<Value>)
        } else {
            Err(ApiError::bad_request(failures.join("; ")))
        }
    });
    Ok(response::async_op(&operation))
}
