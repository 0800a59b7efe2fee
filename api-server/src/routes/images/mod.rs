//! `/1.0/images` and its aliases.

mod aliases;
mod export;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Image, ImageAlias, ImageAliasesEntry, ImagePut};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};

use crate::events::Lifecycle;
use crate::image_files::{self, find};
use crate::listing::Listing;
use crate::microvm_images;
use crate::operations::OperationSpec;
use crate::projects::{self, Feature, url_suffix};
use crate::request::{IfMatch, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Revision, keys, list_as, put_as};
use crate::update::Update;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/images", get(list).post(upload::create))
        .route("/1.0/images/aliases", get(aliases::list).post(aliases::create))
        .route(
            "/1.0/images/aliases/{name}",
            get(aliases::show)
                .put(aliases::update)
                .patch(aliases::update)
                .post(aliases::rename)
                .delete(aliases::remove),
        )
        .route(
            "/1.0/images/{fingerprint}",
            get(show).put(update).patch(update).delete(remove),
        )
        .route("/1.0/images/{fingerprint}/export", get(export::export))
        .route("/1.0/images/{fingerprint}/refresh", post(refresh))
}

fn url(project: &str, fingerprint: &str) -> String {
    format!("/1.0/images/{fingerprint}{}", url_suffix(project))
}

fn project_of(daemon: &Daemon, project: &str) -> Result<String, ApiError> {
    projects::effective(&*daemon.store, project, Feature::Images)
}

/// Aliases of all images of a project (of all projects, with their prefix), by fingerprint.
fn aliases_by_target(
    daemon: &Daemon,
    prefix: &str,
) -> Result<BTreeMap<(String, String), Vec<ImageAlias>>, ApiError> {
    let mut by_target: BTreeMap<_, Vec<ImageAlias>> = BTreeMap::new();
    for (entry, document) in list_as::<ImageAliasesEntry>(&*daemon.store, prefix)? {
        let project = keys::parts(document.key())
            .get(1)
            .copied()
            .unwrap_or_default()
            .to_owned();
        let alias = ImageAlias {
            name: entry.name,
            description: entry.description,
        };
        by_target.entry((project, entry.target)).or_default().push(alias);
    }
    Ok(by_target)
}

async fn list(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let (images, aliases) = if query.is_true("all-projects") {
        (keys::IMAGES.to_owned(), keys::ALIASES.to_owned())
    } else {
        let project = project_of(&daemon, &project)?;
        (keys::images(&project), keys::aliases(&project))
    };
    let mut aliases = aliases_by_target(&daemon, &aliases)?;
    let mut items = Vec::new();
    for (mut image, _) in list_as::<Image>(&*daemon.store, &images)? {
        let target = (image.project.clone(), image.fingerprint.clone());
        image.aliases = aliases.remove(&target).unwrap_or_default();
        items.push((url(&image.project, &image.fingerprint), image));
    }
    listing.reply(items)
}

async fn show(State(daemon): State<Arc<Daemon>>, project: Project, Path(fingerprint): Path<String>) -> Reply {
    let project = project_of(&daemon, &project)?;
    if let Some(mut image) = microvm_images::find(&*daemon.store, &project, &fingerprint)? {
        image.fingerprint = fingerprint;
        return Ok(response::sync(image));
    }
    let (mut image, document) = find(&*daemon.store, &project, &fingerprint)?;
    let target = (project.clone(), image.fingerprint.clone());
    image.aliases = aliases_by_target(&daemon, &keys::aliases(&project))?
        .remove(&target)
        .unwrap_or_default();
    Ok(response::sync_etag(image, &document.etag()))
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path(fingerprint): Path<String>,
    update: Update,
) -> Reply {
    let (mut image, document) = find(&*daemon.store, &project_of(&daemon, &project)?, &fingerprint)?;
    let expect = if_match.check(&document)?;
    let put: ImagePut = update.over(&image)?;
    image.auto_update = put.auto_update;
    image.properties = put.properties;
    image.public = put.public;
    image.expires_at = put.expires_at;
    if let Some(profiles) = put.profiles {
        image.profiles = profiles;
    }
    image.properties.retain(|_, value| !value.is_empty());
    image.aliases.clear();
    for profile in &image.profiles {
        let project = projects::effective(&*daemon.store, &image.project, Feature::Profiles)?;
        if daemon.store.get(&keys::profile(&project, profile))?.is_none() {
            return Err(ApiError::bad_request(format!(
                "Profile {profile:?} doesn't exist"
            )));
        }
    }
    put_as(
        &*daemon.store,
        &keys::image(&image.project, &image.fingerprint),
        &image,
        expect,
    )?;
    let event = Lifecycle::new("image-updated", url(&image.project, &image.fingerprint));
    daemon
        .events
        .lifecycle(event.project(&image.project).requestor(&requestor));
    Ok(response::empty())
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(fingerprint): Path<String>,
) -> Reply {
    let (image, document) = find(&*daemon.store, &project_of(&daemon, &project)?, &fingerprint)?;
    let url = url(&image.project, &image.fingerprint);
    let spec = OperationSpec::task("Deleting image")
        .project(&image.project)
        .resource("images", &url);
    let work_daemon = Arc::clone(&daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        // Its last use may be noted meanwhile; the image goes all the same.
        drop(document);
        image_files::delete(&work_daemon, &image, Revision::Any).await?;
        let event = Lifecycle::new("image-deleted", url).project(&image.project);
        work_daemon.events.lifecycle(event.requestor(&requestor));
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn refresh(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    Path(fingerprint): Path<String>,
) -> Reply {
    find(&*daemon.store, &project_of(&daemon, &project)?, &fingerprint)?;
    Err(ApiError::bad_request(
        "The image has no source to refresh it from: import the new version",
    ))
}
