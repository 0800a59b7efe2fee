//! `/1.0/networks` and `/1.0/network-allocations`.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Network, NetworkAllocation, NetworkLease, NetworkPost, NetworkPut, NetworksPost};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use network::LeaseKind;
use serde_json::json;

use crate::events::Lifecycle;
use crate::listing::Listing;
use crate::networks;
use crate::projects::{self, Feature, url_suffix};
use crate::request::{IfMatch, JsonBody, Project, Query, Requestor};
use crate::response::{self, Reply};
use crate::store::{Document, get_as, keys, list_as};
use crate::update::Update;
use crate::used_by::UserKind;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/1.0/networks", get(list).post(create))
        .route(
            "/1.0/networks/{name}",
            get(show).put(update).patch(update).post(rename).delete(remove),
        )
        .route("/1.0/networks/{name}/state", get(state))
        .route("/1.0/networks/{name}/leases", get(leases))
        .route("/1.0/networks/{name}/forwards", get(no_list))
        .route("/1.0/networks/{name}/load-balancers", get(no_load_balancers))
        .route("/1.0/networks/{name}/peers", get(no_peers))
        .route("/1.0/network-allocations", get(allocations))
        .route("/1.0/network-acls", get(no_list))
        .route("/1.0/network-zones", get(no_list))
        .route("/1.0/network-integrations", get(no_list))
}

fn url(project: &str, name: &str) -> String {
    format!("/1.0/networks/{name}{}", url_suffix(project))
}

fn project_of(daemon: &Daemon, project: &str) -> Result<String, ApiError> {
    projects::effective(&*daemon.store, project, Feature::Networks)
}

fn find(daemon: &Daemon, project: &str, name: &str) -> Result<(Network, Document), ApiError> {
    get_as(&*daemon.store, &keys::network(project, name))?.ok_or_else(|| ApiError::not_found("Network"))
}

fn used_by(daemon: &Daemon, name: &str) -> Result<Vec<String>, ApiError> {
    daemon.users.urls(&*daemon.store, |user| {
        user.kind != UserKind::Snapshot && user.uses_network(name)
    })
}

async fn list(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let listing = Listing::from_query(&query)?;
    let all = query.is_true("all-projects");
    let own = project_of(&daemon, &project)?;
    let prefix = if all {
        keys::NETWORKS.to_owned()
    } else {
        keys::networks(&own)
    };
    let mut items = Vec::new();
    for (mut network, _) in list_as::<Network>(&*daemon.store, &prefix)? {
        network.used_by = used_by(&daemon, &network.name)?;
        items.push((url(&network.project, &network.name), network));
    }
    // Links of the host belong to the default project's view, as in Incus.
    if all || own == api::DEFAULT_PROJECT {
        let managed: BTreeSet<String> = daemon
            .store
            .list(keys::NETWORKS)?
            .iter()
            .map(|document| document.name().to_owned())
            .collect();
        for link in daemon.networks.host_links().await? {
            if !link.ours && !managed.contains(&link.name) && !link.name.starts_with("veth") {
                items.push((url(api::DEFAULT_PROJECT, &link.name), unmanaged(&daemon, &link)?));
            }
        }
    }
    listing.reply(items)
}

fn unmanaged(daemon: &Daemon, link: &network::HostLink) -> Result<Network, ApiError> {
    Ok(Network {
        name: link.name.clone(),
        kind: link.kind.as_str().to_owned(),
        used_by: used_by(daemon, &link.name)?,
        project: api::DEFAULT_PROJECT.to_owned(),
        ..Network::default()
    })
}

async fn create(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    JsonBody(post): JsonBody<NetworksPost>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    if post.name.is_empty() {
        return Err(ApiError::bad_request("No name provided"));
    }
    network::check_interface_name(&post.name)?;
    let kind = if post.kind.is_empty() {
        "bridge".to_owned()
    } else {
        post.kind
    };
    if kind != "bridge" {
        return Err(ApiError::bad_request(format!(
            "Network type {kind:?} is not supported on this server: use \"bridge\""
        )));
    }
    let network = Network {
        config: post.put.config,
        description: post.put.description,
        name: post.name,
        kind,
        project: project.clone(),
        ..Network::default()
    };
    let network = networks::create(&daemon, network).await?;
    let url = url(&project, &network.name);
    daemon.events.lifecycle(
        Lifecycle::new("network-created", &url)
            .project(&project)
            .requestor(&requestor),
    );
    Ok(response::created(&url))
}

async fn show(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    let project = project_of(&daemon, &project)?;
    match find(&daemon, &project, &name) {
        Ok((mut network, document)) => {
            network.used_by = used_by(&daemon, &name)?;
            Ok(response::sync_etag(network, &document.etag()))
        }
        Err(error) if error.is_not_found() => {
            let links = daemon.networks.host_links().await?;
            let link = links
                .iter()
                .find(|link| link.name == name && !link.ours)
                .ok_or(error)?;
            Ok(response::sync(unmanaged(&daemon, link)?))
        }
        Err(error) => Err(error),
    }
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    if_match: IfMatch,
    Path(name): Path<String>,
    update: Update,
) -> Reply {
    let (old, document) = find(&daemon, &project_of(&daemon, &project)?, &name)?;
    let expect = if_match.check(&document)?;
    let put: NetworkPut = update.over(&old)?;
    let new = Network {
        config: put.config,
        description: put.description,
        ..old.clone()
    };
    let event = Lifecycle::new("network-updated", url(&old.project, &old.name)).project(&old.project);
    networks::update(&daemon, old, new, expect).await?;
    daemon.events.lifecycle(event.requestor(&requestor));
    Ok(response::empty())
}

async fn rename(
    State(daemon): State<Arc<Daemon>>,
    project: Project,
    requestor: Requestor,
    Path(name): Path<String>,
    JsonBody(post): JsonBody<NetworkPost>,
) -> Reply {
    let project = project_of(&daemon, &project)?;
    let (network, document) = find(&daemon, &project, &name)?;
    if post.name.is_empty() {
        return Err(ApiError::bad_request("New network name not provided"));
    }
    network::check_interface_name(&post.name)?;
    if !used_by(&daemon, &name)?.is_empty() {
        return Err(ApiError::bad_request("Network is currently in use"));
    }
    networks::rename(
        &daemon,
        network,
        &post.name,
        crate::store::Revision::Exact(document.revision()),
    )
    .await?;
    let url = url(&project, &post.name);
    daemon.events.lifecycle(
        Lifecycle::new("network-renamed", &url)
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
    let (network, document) = find(&daemon, &project, &name)?;
    if !used_by(&daemon, &name)?.is_empty() {
        return Err(ApiError::bad_request("The network is currently in use"));
    }
    networks::delete(
        &daemon,
        &network,
        crate::store::Revision::Exact(document.revision()),
    )
    .await?;
    daemon.events.lifecycle(
        Lifecycle::new("network-deleted", url(&project, &name))
            .project(&project)
            .requestor(&requestor),
    );
    Ok(response::empty())
}

async fn state(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    project_of(&daemon, &project)?;
    Ok(response::sync(daemon.networks.state(&name).await?))
}

async fn leases(State(daemon): State<Arc<Daemon>>, project: Project, Path(name): Path<String>) -> Reply {
    find(&daemon, &project_of(&daemon, &project)?, &name)?;
    let leases: Vec<NetworkLease> = daemon
        .networks
        .leases(&name)
        .await?
        .into_iter()
        .map(|lease| {
            let (kind, location) = match lease.kind {
                LeaseKind::Static => ("static", api::LOCATION_NONE),
                LeaseKind::Dynamic => ("dynamic", api::LOCATION_NONE),
                LeaseKind::Gateway => ("gateway", ""),
            };
            NetworkLease {
                hostname: lease.hostname,
                hwaddr: lease.hwaddr,
                address: lease.address.to_string(),
                kind: kind.to_owned(),
                location: location.to_owned(),
            }
        })
        .collect();
    Ok(response::sync(leases))
}

/// Who uses which address: each network its own, each reservation its holder.
async fn allocations(State(daemon): State<Arc<Daemon>>, project: Project, query: Query) -> Reply {
    let prefix = if query.is_true("all-projects") {
        keys::NETWORKS.to_owned()
    } else {
        keys::networks(&project_of(&daemon, &project)?)
    };
    let mut found = Vec::new();
    for (network, _) in list_as::<Network>(&*daemon.store, &prefix)? {
        let nat = |family: &str| {
            network
                .config
                .get(&format!("{family}.nat"))
                .is_some_and(|value| crate::config_keys::is_true(value))
        };
        for family in ["ipv4", "ipv6"] {
            if let Some(address) = network
                .config
                .get(&format!("{family}.address"))
                .filter(|text| text.contains('/'))
            {
                found.push(NetworkAllocation {
                    addresses: address.clone(),
                    used_by: url(&network.project, &network.name),
                    kind: "network".to_owned(),
                    nat: nat(family),
                    hwaddr: String::new(),
                    network: network.name.clone(),
                });
            }
        }
        for lease in daemon.networks.leases(&network.name).await.unwrap_or_default() {
            if lease.kind != LeaseKind::Gateway {
                let (length, family) = if lease.address.is_ipv4() {
                    (32, "ipv4")
                } else {
                    (128, "ipv6")
                };
                found.push(NetworkAllocation {
                    addresses: format!("{}/{length}", lease.address),
                    used_by: format!("/1.0/instances/{}{}", lease.hostname, url_suffix(&project)),
                    kind: "instance".to_owned(),
                    nat: nat(family),
                    hwaddr: lease.hwaddr,
                    network: network.name.clone(),
                });
            }
        }
    }
    Ok(response::sync(found))
}

/// Kinds of things there are none of here.
async fn no_list() -> Reply {
    Ok(response::sync(Vec::<String>::new()))
}

async fn no_load_balancers() -> Reply {
    Err(ApiError::bad_request(
        "Network driver \"bridge\" does not support load balancers",
    ))
}

async fn no_peers() -> Reply {
    Err(ApiError::bad_request(
        "Network driver \"bridge\" does not support peering",
    ))
}
