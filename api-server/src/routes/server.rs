//! `/` and `/1.0`: the server itself.

use std::sync::Arc;

use api::{Environment, Map, Server, ServerPut};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;

use crate::config_keys::check_server_config;
use crate::events::Lifecycle;
use crate::extensions::API_EXTENSIONS;
use crate::host::VERSION;
use crate::request::{IfMatch, Project, Requestor};
use crate::response::{self, Reply};
use crate::store::{Document, keys, put_as};
use crate::update::Update;
use crate::{ApiError, Daemon};

pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/", get(versions))
        .route("/1.0", get(show).put(update).patch(update))
}

async fn versions() -> Response {
    response::sync(["/1.0"])
}

fn document(daemon: &Daemon) -> Result<Document, ApiError> {
    daemon
        .store
        .get(keys::SERVER_CONFIG)?
        .ok_or_else(|| ApiError::not_found("Server configuration"))
}

async fn show(State(daemon): State<Arc<Daemon>>, requestor: Requestor, project: Project) -> Reply {
    let document = document(&daemon)?;
    let server = Server {
        config: document.to()?,
        api_extensions: API_EXTENSIONS.iter().map(|&name| name.to_owned()).collect(),
        api_status: "stable".to_owned(),
        api_version: "1.0".to_owned(),
        auth: "trusted".to_owned(),
        public: false,
        auth_methods: vec!["tls".to_owned()],
        auth_user_name: requestor.username,
        auth_user_method: requestor.protocol.to_owned(),
        environment: environment(&daemon, &project),
    };
    Ok(response::sync_etag(server, &document.etag()))
}

fn environment(daemon: &Daemon, project: &str) -> Environment {
    let host = &daemon.server;
    let yes_no = |value: bool| value.to_string();
    let architectures = match host.architecture.as_str() {
        "x86_64" => vec!["x86_64".to_owned(), "i686".to_owned()],
        other => vec![other.to_owned()],
    };
    let drivers = daemon.storage_drivers();
    let instance_drivers = daemon.instances.driver_names();
    Environment {
        addresses: Vec::new(),
        architectures,
        certificate: String::new(),
        certificate_fingerprint: String::new(),
        driver: instance_drivers.to_owned(),
        driver_version: vec![VERSION; instance_drivers.split(" | ").count()].join(" | "),
        firewall: "nftables".to_owned(),
        kernel: "Linux".to_owned(),
        kernel_architecture: host.architecture.clone(),
        kernel_features: Map::from([("idmapped_mounts".to_owned(), yes_no(host.idmapped_mounts))]),
        kernel_version: host.kernel_version.clone(),
        lxc_features: Map::new(),
        os_name: host.os_name.clone(),
        os_version: host.os_version.clone(),
        project: project.to_owned(),
        server: "virga".to_owned(),
        server_clustered: false,
        server_event_mode: "full-mesh".to_owned(),
        server_name: host.name.clone(),
        server_pid: host.pid,
        server_version: VERSION.to_owned(),
        storage: drivers.in_use_names(),
        storage_version: drivers.in_use_versions(),
        storage_supported_drivers: drivers.supported(),
    }
}

async fn update(
    State(daemon): State<Arc<Daemon>>,
    requestor: Requestor,
    if_match: IfMatch,
    update: Update,
) -> Reply {
    let document = document(&daemon)?;
    let expect = if_match.check(&document)?;
    let current = ServerPut {
        config: document.to()?,
    };
    let ServerPut { mut config } = update.over(&current)?;
    config.retain(|_, value| !value.is_empty());
    check_server_config(&config)?;
    put_as(&*daemon.store, keys::SERVER_CONFIG, &config, expect)?;
    daemon
        .events
        .lifecycle(Lifecycle::new("config-updated", "/1.0").requestor(&requestor));
    Ok(response::empty())
}
