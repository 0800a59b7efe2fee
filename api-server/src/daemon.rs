//! [`Daemon`]: everything a handler needs, shared by all of them.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::events::EventHub;
use crate::host::ServerInfo;
use crate::operations::Operations;
use crate::paths::StatePaths;
use crate::pools::Pools;
use crate::store::{SqliteStore, Store};
use crate::used_by::{UserKind, Users};
use crate::{ApiError, instances, recovery, storage_drivers};

/// How long event listeners may take to be told that the daemon ends.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(2);

/// What to make on the first start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootstrap {
    /// A pool `default`, a network `virgabr0` and a profile that uses both.
    Auto,
    /// Only the project and the profile that must exist.
    None,
}

/// The daemon. One exists, behind an `Arc`, as the state of every handler.
pub struct Daemon {
    /// Where everything lies.
    pub paths: StatePaths,
    /// All resources.
    pub store: Arc<dyn Store>,
    /// What happens.
    pub events: EventHub,
    /// What is being done.
    pub operations: Operations,
    /// Managed networks.
    pub networks: network::Networks,
    /// Open storage pools.
    pub pools: Pools,
    /// Host and program.
    pub server: ServerInfo,
    /// Containers and virtual machines.
    pub instances: instances::Manager,
    /// Who uses what.
    pub users: Users,
    /// Held while image files are put into place or removed.
    pub image_changes: tokio::sync::Mutex<()>,
    /// Storage drivers that work on this host.
    pub supported_drivers: Vec<api::ServerStorageDriver>,
    /// Cancelled when the daemon is to end.
    pub stop: CancellationToken,
    /// Websockets that want to say goodbye before the daemon ends.
    pub listeners: TaskTracker,
    /// When it started.
    pub started: Instant,
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon")
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}

impl Daemon {
    /// Opens a state directory, completes or undoes what an earlier daemon left half done, adopts what runs, and
    /// makes what must exist. The caller holds the directory's lock.
    pub async fn open(paths: StatePaths, bootstrap: Bootstrap) -> Result<Arc<Self>, ApiError> {
        recovery::make_directories(&paths)?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&paths.database())?);
        let events = EventHub::new();
        let networks = network::Networks::new(paths.networks())
            .map_err(|error| ApiError::from_error(&error).context("Failed to open networks"))?;
        let daemon = Arc::new(Self {
            store,
            operations: Operations::new(events.clone()),
            events,
            networks,
            pools: Pools::default(),
            server: ServerInfo::read(),
            instances: instances::Manager::new(&paths),
            users: Users::default(),
            image_changes: tokio::sync::Mutex::default(),
            supported_drivers: storage_drivers::probe(),
            stop: CancellationToken::new(),
            listeners: TaskTracker::new(),
            started: Instant::now(),
            paths,
        });
        recovery::recover(&daemon, bootstrap).await?;
        Ok(daemon)
    }

    /// Whether a custom volume is attached to an instance that may be running.
    pub fn instances_use_volume(&self, pool: &str, volume: &str) -> Result<bool, ApiError> {
        let users = self.users.all(&*self.store)?;
        Ok(users
            .iter()
            .any(|user| user.kind == UserKind::Instance && user.uses_volume(pool, volume)))
    }

    /// Ends the daemon: operations that can be stopped are stopped, instances run on.
    pub async fn close(&self) {
        self.stop.cancel();
        self.listeners.close();
        if tokio::time::timeout(GOODBYE, self.listeners.wait())
            .await
            .is_err()
        {
            tracing::warn!("event listeners did not leave in time");
        }
        self.operations.shutdown(std::time::Duration::from_secs(10)).await;
        self.instances.shutdown().await;
    }
}
