//! Image aliases.

use std::sync::Arc;

use api::{ImageAlias, ImageAliasesEntry, ImageAliasesEntryPost, ImageAliasesEntryPut, ImageAliasesPost};
use axum::extract::{Path, State};
use serde_json::json;

use super::project_of;
use crate::events::Lifecycle;
use crate::image_files::{find as find_image, new_alias};
use crate::listing::Listing;
use crate::microvm_images;
use crate::names::check_alias_name;
use crate::projects::url_suffix;
use crate::request::{IfMatch, JsonBody, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Change, Document, Revision, get_as, keys, list_as, put_as};
use crate::update::Update;
use crate::{ApiError, Daemon};

fn url(project: &str, name: &str) -> String {
    let name = name
        .replace('%', "%25")
        .replace('/', "%2F")
        .replace('?', "%3F")
        .replace(' ', "%20");
    format!("/1.0/images/aliases/{name}{}", url_suffix(project))
}

fn find(daemon: &Daemon, project: &str, name: &str) -> Result<(ImageAliasesEntry, Document), ApiError> {
    get_as(&*daemon.store, &keys::alias(project, name))?.ok_or_else(|| ApiError::not_found("Image alias"))
}

pub(super) async fn list(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let project = project_of(&daemon, &project)?;
    let listing = Listing::from_query(&query)?;
    let items = list_as::<ImageAliasesEntry>(&*daemon.store, &keys::aliases(&project))?
        .into_iter()
        .map(|(entry, _)| (url(&project, &entry.name), entry))
        .collect();
    listing.reply(items)
}

pub(super) async fn create(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    JsonBody(post): JsonBody<ImageAliasesPost>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    if post.name.is_empty() || post.target.is_empty() {
        return Err(ApiError::bad_request("name and target are required"));
    }
    let (image, _) = find_image(&*daemon.store, &project, &post.target)?;
    let alias = ImageAlias {
        name: post.name,
        description: post.description,
    };
    daemon
        .store
        .transact(vec![new_alias(&*daemon.store, &project, &alias, &image)?])?;
    let url = url(&project, &alias.name);
    daemon.events.lifecycle(
        Lifecycle::new("image-alias-created", &url)
            .project(&project)
            .context(json!({"target": image.fingerprint}))
            .requestor(&requestor),
    );
    Ok(response::created(&url))
}

pub(super) async fn show(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path(name): Path<String>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    if let Some(entry) = microvm_images::alias(&*daemon.store, &project, &name)? {
        return Ok(response::sync(entry));
    }
    let (entry, document) = find(&daemon, &project, &name)?;
    Ok(response::sync_etag(entry, &document.etag()))
}

pub(super) async fn update(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path(name): Path<String>,
    update: Update,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    let (mut entry, document) = find(&daemon, &project, &name)?;
    let expect = if_match.check(&document)?;
    let put: ImageAliasesEntryPut = update.over(&entry)?;
    if put.target.is_empty() {
        return Err(ApiError::bad_request("The target field is required"));
    }
    let (image, _) = find_image(&*daemon.store, &project, &put.target)?;
    entry.target = image.fingerprint;
    entry.kind = image.kind;
    entry.description = put.description;
    put_as(&*daemon.store, document.key(), &entry, expect)?;
    let event = Lifecycle::new("image-alias-updated", url(&project, &name)).project(&project);
    daemon.events.lifecycle(
        event
            .context(json!({"target": entry.target}))
            .requestor(&requestor),
    );
    Ok(response::empty())
}

pub(super) async fn rename(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(post): JsonBody<ImageAliasesEntryPost>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    check_alias_name(&post.name)?;
    let (mut entry, document) = find(&daemon, &project, &name)?;
    let key = keys::alias(&project, &post.name);
    if daemon.store.get(&key)?.is_some() {
        return Err(ApiError::conflict(format!(
            "Alias {:?} already exists",
            post.name
        )));
    }
    entry.name.clone_from(&post.name);
    daemon.store.transact(vec![
        Change::delete(document.key(), Revision::Exact(document.revision())),
        Change::put(key, &entry, Revision::Absent)?,
    ])?;
    let url = url(&project, &post.name);
    let event = Lifecycle::new("image-alias-renamed", &url).project(&project);
    daemon
        .events
        .lifecycle(event.context(json!({"old_name": name})).requestor(&requestor));
    Ok(response::created(&url))
}

pub(super) async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    let (_, document) = find(&daemon, &project, &name)?;
    daemon
        .store
        .delete(document.key(), Revision::Exact(document.revision()))?;
    let event = Lifecycle::new("image-alias-deleted", url(&project, &name)).project(&project);
    daemon.events.lifecycle(event.requestor(&requestor));
    Ok(response::empty())
}
