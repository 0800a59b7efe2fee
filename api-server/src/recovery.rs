//! What happens at each start: directories, half-done changes, what must exist.

use std::sync::Arc;

use crate::daemon::Bootstrap;
use crate::paths::StatePaths;
use crate::store::{Change, Revision, get_as, keys};
use crate::{ApiError, Daemon, image_files, intents, networks, pools};

/// The pool that the first start makes.
const FIRST_POOL: &str = "default";
/// The network that the first start makes.
const FIRST_NETWORK: &str = "virgabr0";

/// Makes the directories of a state directory.
pub fn make_directories(paths: &StatePaths) -> Result<(), ApiError> {
    for (directory, mode) in [
        (paths.root().to_owned(), 0o711),
        (paths.images(), 0o700),
        (paths.uploads(), 0o700),
        (paths.storage_pools(), 0o711),
        (paths.networks(), 0o711),
        (paths.all_logs(), 0o700),
        (paths.all_runs(), 0o711),
    ] {
        std::fs::create_dir_all(&directory)
            .and_then(|()| {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode))
            })
            .map_err(|error| {
                ApiError::internal(format!(
                    "Failed to make directory {}: {error}",
                    directory.display()
                ))
            })?;
    }
    Ok(())
}

/// Completes or undoes what was begun, adopts what runs, makes what must exist. The order matters: what is configured
/// comes before what was begun with it, and instances come last, because they need everything else.
pub async fn recover(daemon: &Arc<Daemon>, bootstrap: Bootstrap) -> Result<(), ApiError> {
    let first_start = make_documents(daemon)?;
    image_files::empty_uploads(daemon)?;
    pools::open_all(daemon).await?;
    intents::settle_all(daemon).await?;
    networks::ensure_all(daemon).await?;
    if bootstrap == Bootstrap::Auto && bootstrap_is_due(daemon, first_start)? {
        make_first_resources(daemon).await?;
    }
    daemon.instances.recover(daemon).await
}

/// Makes what every server has: its configuration, the default project and its profile.
fn make_documents(daemon: &Daemon) -> Result<bool, ApiError> {
    let store = &*daemon.store;
    if store.get(keys::SERVER_CONFIG)?.is_some() {
        return Ok(false);
    }
    let features = [
        "features.images",
        "features.networks",
        "features.networks.zones",
        "features.profiles",
        "features.storage.buckets",
        "features.storage.volumes",
    ];
    let project = api::Project {
        config: features.map(|key| (key.to_owned(), "true".to_owned())).into(),
        description: "Default Incus project".to_owned(),
        name: api::DEFAULT_PROJECT.to_owned(),
        used_by: Vec::new(),
    };
    let profile = api::Profile {
        description: "Default Incus profile".to_owned(),
        name: "default".to_owned(),
        project: api::DEFAULT_PROJECT.to_owned(),
        ..api::Profile::default()
    };
    store.transact(vec![
        Change::put(keys::SERVER_CONFIG, &api::Map::new(), Revision::Absent)?,
        Change::put(keys::project(api::DEFAULT_PROJECT), &project, Revision::Absent)?,
        Change::put(
            keys::profile(api::DEFAULT_PROJECT, "default"),
            &profile,
            Revision::Absent,
        )?,
        // Removed when the first resources are there: a daemon that is killed before makes them at its next start.
        Change::put(keys::intent("bootstrap", "first"), &(), Revision::Any)?,
    ])?;
    Ok(true)
}

fn bootstrap_is_due(daemon: &Daemon, first_start: bool) -> Result<bool, ApiError> {
    Ok(first_start || daemon.store.get(&keys::intent("bootstrap", "first"))?.is_some())
}

/// A pool, a network and a profile that uses both. That there can be no network is a warning.
async fn make_first_resources(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    let store = &*daemon.store;
    let mut devices = api::Devices::new();
    let device = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<api::Map>()
    };
    let pool = api::StoragePool {
        name: FIRST_POOL.to_owned(),
        driver: "dir".to_owned(),
        ..api::StoragePool::default()
    };
    if store.get(&keys::storage_pool(FIRST_POOL))?.is_none() {
        pools::create(daemon, pool).await?;
    }
    devices.insert(
        "root".to_owned(),
        device(&[("path", "/"), ("pool", FIRST_POOL), ("type", "disk")]),
    );
    let there = store
        .get(&keys::network(api::DEFAULT_PROJECT, FIRST_NETWORK))?
        .is_some();
    if there || networks::bootstrap(daemon, FIRST_NETWORK).await {
        let nic = device(&[("name", "eth0"), ("network", FIRST_NETWORK), ("type", "nic")]);
        devices.insert("eth0".to_owned(), nic);
    }
    let key = keys::profile(api::DEFAULT_PROJECT, "default");
    let mut changes = vec![Change::delete(keys::intent("bootstrap", "first"), Revision::Any)];
    if let Some((mut profile, document)) = get_as::<api::Profile>(store, &key)?
        && profile.devices.is_empty()
    {
        profile.devices = devices;
        changes.push(Change::put(key, &profile, Revision::Exact(document.revision()))?);
    }
    store.transact(changes)?;
    Ok(())
}
