//! `/1.0/projects`.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Map, Project, ProjectPost, ProjectPut, ProjectState, ProjectStateResource, ProjectsPost};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use serde_json::json;

use crate::config_keys::{check_project_config, parse_bytes};
use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::names::check_project_name;
use crate::operations::OperationSpec;
use crate::projects::{Feature, has, url_suffix};
use crate::request::{IfMatch, JsonBody, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Change, Document, Revision, Store, get_as, keys, list_as};
use crate::update::Update;
use crate::{ApiError, Daemon};

/// Features that a new project has unless it says otherwise, as in Incus: networks are shared.
const DEFAULT_FEATURES: [&str; 4] = [
    "features.images",
    "features.profiles",
    "features.storage.buckets",
    "features.storage.volumes",
];

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/projects", get(list).post(create))
        .route(
            "/1.0/projects/{name}",
            get(show).put(update).patch(update).post(rename).delete(remove),
        )
        .route("/1.0/projects/{name}/state", get(state))
}

fn url(name: &str) -> String {
    format!("/1.0/projects/{name}")
}

fn find(daemon: &Daemon, name: &str) -> Result<(Project, Document), ApiError> {
    get_as(&*daemon.store, &keys::project(name))?.ok_or_else(|| ApiError::not_found("Project"))
}

/// What is in a project, in Incus' order: instances, images, networks, profiles, volumes.
fn used_by(store: &dyn Store, project: &str) -> Result<Vec<String>, ApiError> {
    let suffix = url_suffix(project);
    let mut urls = Vec::new();
    for (prefix, kind) in [
        (keys::instances(project), "instances"),
        (keys::images(project), "images"),
        (keys::networks(project), "networks"),
        (keys::profiles(project), "profiles"),
    ] {
        for document in store.list(&prefix)? {
            urls.push(format!("/1.0/{kind}/{}{suffix}", document.name()));
        }
    }
    for document in store.list(keys::VOLUMES)? {
        // Volumes of instances go with their instances.
        if let [_, pool, owner, kind @ "custom", name] = keys::parts(document.key())[..]
            && owner == project
        {
            urls.push(format!("/1.0/storage-pools/{pool}/volumes/{kind}/{name}{suffix}"));
        }
    }
    Ok(urls)
}

/// Whether there is anything but the default profile in a project.
fn is_empty(store: &dyn Store, project: &str) -> Result<bool, ApiError> {
    let profile = format!("/1.0/profiles/default{}", url_suffix(project));
    Ok(used_by(store, project)?.iter().all(|url| *url == profile))
}

async fn list(State(daemon): State<Arc<Daemon>>, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let mut items = Vec::new();
    for (mut project, _) in list_as::<Project>(&*daemon.store, keys::PROJECTS)? {
        if !listing.wants_only_urls() {
            project.used_by = used_by(&*daemon.store, &project.name)?;
        }
        items.push((url(&project.name), project));
    }
    listing.reply(items)
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    JsonBody(post): JsonBody<ProjectsPost>,
) -> Reply {
    check_project_name(&post.name)?;
    let mut config = clean(post.put.config)?;
    for feature in DEFAULT_FEATURES {
        config
            .entry(feature.to_owned())
            .or_insert_with(|| "true".to_owned());
    }
    let own_profiles = has(&config, Feature::Profiles);
    let project = Project {
        config,
        description: post.put.description,
        name: post.name,
        used_by: Vec::new(),
    };
    let mut changes = vec![Change::put(
        keys::project(&project.name),
        &project,
        Revision::Absent,
    )?];
    if own_profiles {
        let profile = api::Profile {
            name: "default".to_owned(),
            description: format!("Default Incus profile for project {}", project.name),
            project: project.name.clone(),
            ..api::Profile::default()
        };
        changes.push(Change::put(
            keys::profile(&project.name, "default"),
            &profile,
            Revision::Any,
        )?);
    }
    daemon.store.transact(changes).map_err(|_| {
        ApiError::conflict(format!(
            "Error creating project {:?}: The project already exists",
            project.name
        ))
    })?;
    let url = url(&project.name);
    daemon.events.lifecycle(
        Lifecycle::new("project-created", &url)
            .project(&project.name)
            .requestor(&requestor),
    );
    Ok(response::created(&url))
}

fn clean(mut config: Map) -> Result<Map, ApiError> {
    config.retain(|_, value| !value.is_empty());
    check_project_config(&config)?;
    Ok(config)
}

async fn show(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Reply {
    let (mut project, document) = find(&daemon, &name)?;
    project.used_by = used_by(&*daemon.store, &name)?;
    Ok(response::sync_etag(project, &document.etag()))
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    if_match: IfMatch,
    Path(name): Path<String>,
    update: Update,
) -> Reply {
    let (mut project, document) = find(&daemon, &name)?;
    let expect = if_match.check(&document)?;
    let ProjectPut { config, description } = update.over(&project)?;
    let config = clean(config)?;
    let feature = |config: &Map, key: &str| {
        config
            .get(key)
            .is_some_and(|value| crate::config_keys::is_true(value))
    };
    let features_change = config
        .keys()
        .chain(project.config.keys())
        .any(|key| key.starts_with("features.") && feature(&config, key) != feature(&project.config, key));
    if features_change && project.name == api::DEFAULT_PROJECT {
        return Err(ApiError::bad_request(
            "You can't change the features of the default project",
        ));
    }
    if features_change && !is_empty(&*daemon.store, &project.name)? {
        return Err(ApiError::bad_request(
            "Features can only be changed on empty projects",
        ));
    }
    let mut changes = Vec::new();
    if features_change {
        let key = keys::profile(&project.name, "default");
        if has(&config, Feature::Profiles) {
            if daemon.store.get(&key)?.is_none() {
                let profile = api::Profile {
                    name: "default".to_owned(),
                    description: format!("Default Incus profile for project {}", project.name),
                    project: project.name.clone(),
                    ..api::Profile::default()
                };
                changes.push(Change::put(key, &profile, Revision::Absent)?);
            }
        } else {
            changes.push(Change::delete(key, Revision::Any));
        }
    }
    project.config = config;
    project.description = description;
    changes.push(Change::put(keys::project(&project.name), &project, expect)?);
    daemon.store.transact(changes)?;
    daemon.events.lifecycle(
        Lifecycle::new("project-updated", url(&project.name))
            .project(&project.name)
            .requestor(&requestor),
    );
    Ok(response::empty())
}

async fn rename(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(post): JsonBody<ProjectPost>,
) -> Reply {
    if name == api::DEFAULT_PROJECT {
        return Err(ApiError::forbidden("The 'default' project cannot be renamed"));
    }
    check_project_name(&post.name)?;
    find(&daemon, &name)?;
    let spec = OperationSpec::task("Renaming project").project(&name);
    let work_daemon = Arc::clone(&daemon);
    let operation = daemon.operations.spawn(spec, move |_| async move {
        let daemon = work_daemon;
        let (mut project, document) = find(&daemon, &name)?;
        if !is_empty(&*daemon.store, &name)? {
            return Err(ApiError::bad_request("Only empty projects can be renamed"));
        }
        if daemon.store.get(&keys::project(&post.name))?.is_some() {
            return Err(ApiError::conflict(format!(
                "A project named {:?} already exists",
                post.name
            )));
        }
        project.name.clone_from(&post.name);
        let mut changes = vec![
            Change::delete(keys::project(&name), Revision::Exact(document.revision())),
            Change::put(keys::project(&post.name), &project, Revision::Absent)?,
        ];
        if let Some((mut profile, _)) =
            get_as::<api::Profile>(&*daemon.store, &keys::profile(&name, "default"))?
        {
            profile.project.clone_from(&post.name);
            changes.push(Change::delete(keys::profile(&name, "default"), Revision::Any));
            changes.push(Change::put(
                keys::profile(&post.name, "default"),
                &profile,
                Revision::Absent,
            )?);
        }
        daemon.store.transact(changes)?;
        daemon.events.lifecycle(
            Lifecycle::new("project-renamed", url(&post.name))
                .project(&post.name)
                .context(json!({"old_name": name}))
                .requestor(&requestor),
        );
        Ok(None)
    });
    Ok(response::async_op(&operation))
}

async fn remove(State(daemon): State<Arc<Daemon>>, requestor: Requestor, Path(name): Path<String>) -> Reply {
    if name == api::DEFAULT_PROJECT {
        return Err(ApiError::forbidden("The 'default' project cannot be deleted"));
    }
    let (_, document) = find(&daemon, &name)?;
    if !is_empty(&*daemon.store, &name)? {
        return Err(ApiError::bad_request("Only empty projects can be removed"));
    }
    daemon.store.transact(vec![
        Change::delete(keys::project(&name), Revision::Exact(document.revision())),
        Change::delete(keys::profile(&name, "default"), Revision::Any),
    ])?;
    daemon.events.lifecycle(
        Lifecycle::new("project-deleted", url(&name))
            .project(&name)
            .requestor(&requestor),
    );
    Ok(response::empty())
}

/// What a project uses of what it may use. Limits are counted from what instances are configured with.
async fn state(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Reply {
    let (project, _) = find(&daemon, &name)?;
    let limit = |key: &str| {
        project
            .config
            .get(key)
            .and_then(|value| parse_bytes(value).ok())
            .and_then(|value| i64::try_from(value).ok())
            .unwrap_or(-1)
    };
    let users = daemon.users.all(&*daemon.store)?;
    let count = |kind: &str| {
        users
            .iter()
            .filter(|user| {
                user.kind == crate::used_by::UserKind::Instance
                    && user.project == name
                    && (kind.is_empty() || user.instance_type == kind)
            })
            .count() as i64
    };
    let mut resources = BTreeMap::new();
    let networks = daemon.store.list(&keys::networks(&name))?.len() as i64;
    for (resource, usage) in [
        ("containers", count("container")),
        ("virtual-machines", count("virtual-machine")),
        ("instances", count("")),
        ("networks", networks),
        ("cpu", 0),
        ("disk", 0),
        ("memory", 0),
        ("processes", 0),
    ] {
        let limit = limit(&format!("limits.{resource}"));
        resources.insert(resource.to_owned(), ProjectStateResource { limit, usage });
    }
    Ok(response::sync(ProjectState { resources }))
}
