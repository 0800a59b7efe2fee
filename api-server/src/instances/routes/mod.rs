//! The endpoints below `/1.0/instances`, one file per family.

mod access;
mod collection;
mod console;
mod exec;
mod files;
mod instance;
mod logs;
mod metadata;
mod snapshots;
mod state;

use std::sync::Arc;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};

use super::lock::{InstanceKey, InstanceLock};
use super::record::{self, InstanceRecord};
use crate::operations::OperationSpec;
use crate::{ApiError, Daemon};

/// All routes of instances.
pub fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .merge(collection::routes())
        .merge(instance::routes())
        .merge(state::routes())
        .merge(exec::routes())
        .merge(console::routes())
        .merge(files::routes())
        .merge(logs::routes())
        .merge(metadata::routes())
        .merge(snapshots::routes())
        .merge(access::routes())
}

/// An operation on one instance. Resources are named without their project, as Incus does.
fn task(description: &str, project: &str, name: &str) -> OperationSpec {
    OperationSpec::task(description)
        .project(project)
        .resource("instances", format!("/1.0/instances/{name}"))
}

fn find(daemon: &Daemon, project: &str, name: &str) -> Result<InstanceRecord, ApiError> {
    record::load(&*daemon.store, project, name).map(|(record, _)| record)
}

/// Takes an instance that exists.
fn lock(daemon: &Daemon, project: &str, name: &str, action: &'static str) -> Result<InstanceLock, ApiError> {
    find(daemon, project, name)?;
    let key: InstanceKey = (project.to_owned(), name.to_owned());
    let lock = daemon.instances.locks.take(&key, action)?;
    // Whoever had it before may have removed it.
    find(daemon, project, name)?;
    Ok(lock)
}

/// A file as Incus sends it.
fn file(content: Vec<u8>, name: &str, changed: SystemTime) -> Response {
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(value) = HeaderValue::from_str(&format!("inline;filename={name}")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    let date = jiff::Timestamp::try_from(changed)
        .map(|moment| moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    if let Ok(Ok(value)) = date.map(|date| HeaderValue::from_str(&date)) {
        headers.insert(header::LAST_MODIFIED, value);
    }
    response
}
