//! `/1.0/profiles`.

use std::sync::Arc;

use api::{Profile, ProfilePost, ProfilePut, ProfilesPost};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::json;

use crate::config_keys::{check_devices, check_instance_config};
use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::names::check_plain_name;
use crate::projects::{self, Feature};
use crate::request::{IfMatch, JsonBody, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Change, Document, Revision, get_as, keys, list_as, put_as};
use crate::update::Update;
use crate::used_by::UserKind;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/profiles", get(list).post(create))
        .route(
            "/1.0/profiles/{name}",
            get(show).put(update).patch(update).post(rename).delete(remove),
        )
}

fn url(project: &str, name: &str) -> String {
    format!("/1.0/profiles/{name}{}", projects::url_suffix(project))
}

fn project_of(daemon: &Daemon, project: &Project) -> Result<String, ApiError> {
    projects::effective(&*daemon.store, project, Feature::Profiles)
}

fn find(daemon: &Daemon, project: &str, name: &str) -> Result<(Profile, Document), ApiError> {
    get_as(&*daemon.store, &keys::profile(project, name))?.ok_or_else(|| ApiError::not_found("Profile"))
}

fn used_by(daemon: &Daemon, project: &str, name: &str) -> Result<Vec<String>, ApiError> {
    daemon.users.urls(&*daemon.store, |user| {
        user.kind == UserKind::Instance
            && user.profile_project == project
            && user.profiles.iter().any(|profile| profile == name)
    })
}

async fn list(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let prefix = if query.is_true("all-projects") {
        keys::PROFILES.to_owned()
    } else {
        keys::profiles(&project_of(&daemon, &project)?)
    };
    let mut items = Vec::new();
    for (mut profile, _) in list_as::<Profile>(&*daemon.store, &prefix)? {
        if !listing.wants_only_urls() {
            profile.used_by = used_by(&daemon, &profile.project, &profile.name)?;
        }
        items.push((url(&profile.project, &profile.name), profile));
    }
    listing.reply(items)
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    JsonBody(post): JsonBody<ProfilesPost>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    check_plain_name("profile", &post.name)?;
    let mut profile = Profile {
        name: post.name,
        project: project.clone(),
        ..Profile::default()
    };
    fill(&mut profile, post.put)?;
    let url = url(&project, &profile.name);
    put_as(
        &*daemon.store,
        &keys::profile(&project, &profile.name),
        &profile,
        Revision::Absent,
    )
    .map_err(|_| {
        ApiError::conflict(format!(
            "Error inserting {:?} into database: The profile already exists",
            profile.name
        ))
    })?;
    daemon.events.lifecycle(
        Lifecycle::new("profile-created", &url)
            .project(&project)
            .requestor(&requestor),
    );
    Ok(response::created(&url))
}

fn fill(profile: &mut Profile, put: ProfilePut) -> Result<(), ApiError> {
    check_instance_config(&put.config, None)?;
    check_devices(&put.devices)?;
    profile.config = put.config;
    profile.config.retain(|_, value| !value.is_empty());
    profile.devices = put.devices;
    profile
        .devices
        .values_mut()
        .for_each(|device| device.retain(|_, value| !value.is_empty()));
    profile.description = put.description;
    Ok(())
}

async fn show(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    let project = project_of(&daemon, &project)?;
    let (mut profile, document) = find(&daemon, &project, &name)?;
    profile.used_by = used_by(&daemon, &project, &name)?;
    Ok(response::sync_etag(profile, &document.etag()))
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path(name): Path<String>,
    update: Update,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    let (mut profile, document) = find(&daemon, &project, &name)?;
    let expect = if_match.check(&document)?;
    let put = update.over(&profile)?;
    fill(&mut profile, put)?;
    put_as(&*daemon.store, document.key(), &profile, expect)?;
    daemon.events.lifecycle(
        Lifecycle::new("profile-updated", url(&project, &name))
            .project(&project)
            .requestor(&requestor),
    );
    Ok(response::empty())
}

async fn rename(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(post): JsonBody<ProfilePost>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    if name == "default" {
        return Err(ApiError::forbidden("The \"default\" profile cannot be renamed"));
    }
    check_plain_name("profile", &post.name)?;
    let (mut profile, document) = find(&daemon, &project, &name)?;
    profile.name.clone_from(&post.name);
    // Everything that names the profile changes with it, or nothing does.
    let mut changes = vec![
        Change::delete(
            keys::profile(&project, &name),
            Revision::Exact(document.revision()),
        ),
        Change::put(keys::profile(&project, &post.name), &profile, Revision::Absent)?,
    ];
    for user in daemon.users.all(&*daemon.store)?.iter() {
        if user.profile_project == project && user.profiles.contains(&name) {
            let key = match user.name.split_once('/') {
                None => keys::instance(&user.project, &user.name),
                Some((instance, snapshot)) => keys::snapshot(&user.project, instance, snapshot),
            };
            if let Some(document) = daemon.store.get(&key)? {
                let mut value = document.value()?;
                let profiles = user
                    .profiles
                    .iter()
                    .map(|profile| if *profile == name { &post.name } else { profile });
                value["profiles"] = json!(profiles.collect::<Vec<_>>());
                changes.push(Change::Put {
                    key,
                    value,
                    expect: Revision::Exact(document.revision()),
                });
            }
        }
    }
    if daemon.store.get(&keys::profile(&project, &post.name))?.is_some() {
        return Err(ApiError::conflict(format!("Name {:?} already in use", post.name)));
    }
    daemon.store.transact(changes)?;
    let url = url(&project, &post.name);
    daemon.events.lifecycle(
        Lifecycle::new("profile-renamed", &url)
            .project(&project)
            .context(json!({"old_name": name}))
            .requestor(&requestor),
    );
    Ok(response::created(&url))
}

async fn remove(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    if name == "default" {
        return Err(ApiError::forbidden("The \"default\" profile cannot be deleted"));
    }
    let (_, document) = find(&daemon, &project, &name)?;
    if !used_by(&daemon, &project, &name)?.is_empty() {
        return Err(ApiError::bad_request("Profile is currently in use"));
    }
    daemon.store.delete(
        &keys::profile(&project, &name),
        Revision::Exact(document.revision()),
    )?;
    daemon.events.lifecycle(
        Lifecycle::new("profile-deleted", url(&project, &name))
            .project(&project)
            .requestor(&requestor),
    );
    Ok(response::empty())
}
