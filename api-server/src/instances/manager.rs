//! [`Manager`]: what the daemon knows of instances beyond their records: which run, who changes which, who has which ids.
//!
//! All of it can be found out again from the store and the run directories, and is, at each start ([`super::recover`]).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::{InstanceType, StatusCode, Timestamp};
use tokio::sync::{Semaphore, watch};

use super::driver::{Driver, Drivers, Inside, VmSupport};
use super::ids::IdRanges;
use super::lock::{InstanceKey, Locks};
use super::record::InstanceRecord;
use super::supervisor::{Exit, Supervisor};
use crate::paths::StatePaths;
use crate::{ApiError, Daemon};

/// Starts at the same time for each processor: enough to keep it busy while others wait for the disk, few enough that one
/// start out of a hundred is not a hundred times slower.
const STARTS_PER_CPU: usize = 4;
/// Instances asked for their state at the same time, over all requests.
const QUERIES: usize = 32;

/// An instance that runs.
#[derive(Debug)]
pub struct Running {
    /// What it is.
    pub kind: InstanceType,
    /// Its run directory.
    pub run_dir: PathBuf,
    /// Its supervisor.
    pub supervisor: Supervisor,
    /// The process that the API shows.
    pub pid: i32,
    /// When it was started.
    pub started_at: Timestamp,
    frozen: AtomicBool,
    expected: AtomicBool,
    over: watch::Sender<Option<Exit>>,
}

impl Running {
    /// An instance that runs from now on, or has been found running.
    pub fn new(
        kind: InstanceType,
        run_dir: PathBuf,
        supervisor: Supervisor,
        pid: i32,
        started_at: Timestamp,
        inside: Inside,
    ) -> Self {
        Self {
            kind,
            run_dir,
            supervisor,
            pid,
            started_at,
            frozen: AtomicBool::new(inside == Inside::Frozen),
            expected: AtomicBool::new(false),
            over: watch::Sender::new(None),
        }
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Acquire)
    }

    /// Records whether it is frozen.
    pub fn set_frozen(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Release);
    }

    /// Whether somebody asked for its end and waits for it.
    pub fn is_expected(&self) -> bool {
        self.expected.load(Ordering::Acquire)
    }

    /// Records that somebody waits for its end, or no longer does.
    pub fn set_expected(&self, expected: bool) {
        self.expected.store(expected, Ordering::Release);
    }

    /// Whether it has ended and everything of it has been put away.
    pub fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// Waits until it has ended and everything of it has been put away.
    pub async fn over(&self) -> Exit {
        let mut over = self.over.subscribe();
        // The sender is ours, so waiting cannot fail.
        match over.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(super::stop::crashed),
            Err(_) => super::stop::crashed(),
        }
    }

    pub(super) fn tell_over(&self, exit: Exit) {
        self.over.send_replace(Some(exit));
    }
}

/// Everything about instances that is not in the store.
#[derive(Debug)]
pub struct Manager {
    paths: StatePaths,
    drivers: Arc<Drivers>,
    pub(super) locks: Locks,
    pub(super) ids: IdRanges,
    running: Mutex<HashMap<InstanceKey, Arc<Running>>>,
    pub(super) starts: Semaphore,
    pub(super) queries: Arc<Semaphore>,
    /// One at a time makes an image's volume: the others then find it.
    pub(super) image_volumes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Manager {
    /// Knows of no instance yet.
    pub fn new(paths: &StatePaths) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            paths: paths.clone(),
            drivers: Arc::new(Drivers::new(paths.clone())),
            locks: Locks::default(),
            ids: IdRanges::default(),
            running: Mutex::default(),
            starts: Semaphore::new(cpus * STARTS_PER_CPU),
            queries: Arc::new(Semaphore::new(QUERIES)),
            image_volumes: Mutex::default(),
        }
    }

    /// Completes or undoes what an earlier daemon left half done, and adopts what runs. Called once, before serving.
    pub async fn recover(&self, daemon: &Arc<Daemon>) -> Result<(), ApiError> {
        super::recover::recover(daemon).await
    }

    /// For the daemon's end. Instances run on; there is nothing of them in this process that needs an end.
    pub async fn shutdown(&self) {
        tracing::info!(running = self.all_running().len(), "instances run on");
    }

    /// Whether virtual machines can run on this host, and why not.
    pub fn vm_support(&self) -> VmSupport {
        self.drivers.vm_support().clone()
    }

    /// What `environment.driver` lists.
    pub fn driver_names(&self) -> &'static str {
        match self.drivers.vm_support() {
            VmSupport::Yes => "virga-run | virga-vmm",
            VmSupport::No(_) => "virga-run",
        }
    }

    pub(super) fn run_dir(&self, record: &InstanceRecord) -> PathBuf {
        self.paths.run(&record.disk_name())
    }

    pub(super) fn log_dir(&self, record: &InstanceRecord) -> PathBuf {
        self.paths.logs(&record.disk_name())
    }

    fn table(&self) -> MutexGuard<'_, HashMap<InstanceKey, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The running instance of a name.
    pub fn running(&self, project: &str, name: &str) -> Option<Arc<Running>> {
        self.table().get(&(project.to_owned(), name.to_owned())).cloned()
    }

    /// The running instance of a name, or Incus' words for its absence.
    pub fn expect_running(&self, project: &str, name: &str) -> Result<Arc<Running>, ApiError> {
        self.running(project, name)
            .ok_or_else(|| ApiError::bad_request("Instance is not running"))
    }

    /// All that run.
    pub fn all_running(&self) -> Vec<(InstanceKey, Arc<Running>)> {
        self.table()
            .iter()
            .map(|(key, running)| (key.clone(), Arc::clone(running)))
            .collect()
    }

    pub(super) fn insert(&self, key: InstanceKey, running: Arc<Running>) {
        self.table().insert(key, running);
    }

    pub(super) fn remove(&self, key: &InstanceKey) {
        self.table().remove(key);
    }

    /// What an instance does.
    pub fn status(&self, project: &str, name: &str) -> StatusCode {
        match self.running(project, name) {
            Some(running) if running.is_frozen() => StatusCode::Frozen,
            Some(_) => StatusCode::Running,
            None => StatusCode::Stopped,
        }
    }

    /// Works with a driver on a thread that may block.
    pub(super) async fn with_driver<T: Send + 'static>(
        &self,
        kind: InstanceType,
        work: impl FnOnce(&dyn Driver) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let drivers = Arc::clone(&self.drivers);
        blocking(move || work(drivers.of(kind))).await
    }
}

/// Does work that blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await?
}
