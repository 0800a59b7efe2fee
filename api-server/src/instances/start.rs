//! Starting an instance, step by step, each of which may be the daemon's last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{InstanceType, StorageVolume, Timestamp};

use super::crash::{self, Step};
use super::devices::{self, Disk, DiskSource};
use super::driver::{Inside, VmSupport};
use super::expand::{self, Expanded};
use super::ids;
use super::lock::InstanceLock;
use super::manager::{Running, blocking};
use super::plan::{Port, StartPlan};
use super::record::{self, InstanceRecord};
use super::supervisor::{self, Supervisor};
use super::{ports, stop, templates, watch};
use crate::projects::{self, Feature};
use crate::store::{self, keys};
use crate::{ApiError, Daemon};

/// How long a supervisor that failed to start its instance may take to die.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Starts an instance. The caller holds its lock and tells the event.
pub(super) async fn start(daemon: &Arc<Daemon>, lock: &InstanceLock) -> Result<(), ApiError> {
    let manager = &daemon.instances;
    let (project, name) = lock.key();
    if manager.running(project, name).is_some() {
        return Err(ApiError::bad_request("The instance is already running"));
    }
    let _permit = manager
        .starts
        .acquire()
        .await
        .map_err(|_| ApiError::unavailable("The daemon is ending"))?;
    crash::point(Step::StartBegun);
    let (record, _) = record::load(&*daemon.store, project, name)?;
    let config = expand::expand(&*daemon.store, &record)?;
    let planned = plan(daemon, &record, config)?;
    let (record, ()) = record::update(&*daemon.store, project, name, |record| {
        note(record, &planned);
        Ok(())
    })?;
    crash::point(Step::StartRecorded);
    match run(daemon, lock, record.clone(), planned).await {
        Ok(running) => {
            manager.insert(lock.key().clone(), Arc::clone(&running));
            watch::spawn(daemon, lock.key().clone(), running);
            Ok(())
        }
        Err(error) => {
            if let Err(second) = stop::put_away(daemon, &record, None).await {
                tracing::warn!(instance = name, error = %second, "what a failed start left is not all gone");
            }
            Err(error)
        }
    }
}

/// What is known before anything is done.
struct Planned {
    config: Expanded,
    ports: Vec<Port>,
    disks: Vec<(Disk, PathBuf)>,
    root: PathBuf,
    root_read_only: bool,
    ids: Option<(u32, u32)>,
}

fn plan(daemon: &Arc<Daemon>, record: &InstanceRecord, config: Expanded) -> Result<Planned, ApiError> {
    if record.is_vm()
        && let VmSupport::No(reason) = daemon.instances.vm_support()
    {
        return Err(ApiError::bad_request(format!(
            "Virtual machines cannot run here: {reason}"
        )));
    }
    super::validate::check_supported(&config)?;
    let set = devices::read(record.kind, &config.devices)?;
    let ports = ports::plan(daemon, record, &set.nics)?;
    let pool = daemon.pools.get(&record.pool)?;
    let volume = pool.path(&record.volume());
    let root = if record.is_vm() {
        volume
    } else {
        volume.join("rootfs")
    };
    if !root.exists() {
        return Err(ApiError::bad_request(format!(
            "The instance has no root file system at {}",
            root.display()
        )));
    }
    let mut disks = Vec::new();
    for disk in set.disks {
        let source = disk_source(daemon, record, &disk)?;
        if record.kind == InstanceType::VirtualMachine && source.is_dir() {
            return Err(ApiError::bad_request(format!(
                "Failed start validation for device {:?}: {} is a directory, and virtual machines take block volumes, \
                 disk images and block devices",
                disk.device,
                source.display()
            )));
        }
        if disk.required && !source.exists() {
            return Err(ApiError::bad_request(format!(
                "Failed start validation for device {:?}: Missing source path {:?} for disk {:?}",
                disk.device, source, disk.device
            )));
        }
        if disk.required || source.exists() {
            disks.push((disk, source));
        }
    }
    let key = (record.project.clone(), record.name.clone());
    let ids = if !record.is_vm() && config.is_true("security.privileged") {
        None
    } else {
        let wanted = config
            .get("security.idmap.size")
            .parse()
            .ok()
            .filter(|size| *size >= ids::BLOCK);
        let size = match wanted {
            Some(size) => size,
            None if config.is_true("security.nesting") => ids::NESTING,
            None => ids::BLOCK,
        };
        let earlier = record.volatile("idmap.base").and_then(|base| base.parse().ok());
        Some((daemon.instances.ids.take(&key, earlier, size)?, size))
    };
    Ok(Planned {
        config,
        ports,
        disks,
        root,
        root_read_only: set.root.read_only,
        ids,
    })
}

/// Where a further disk lies on the host.
fn disk_source(daemon: &Daemon, record: &InstanceRecord, disk: &Disk) -> Result<PathBuf, ApiError> {
    match &disk.source {
        DiskSource::Host(path) => Ok(path.clone()),
        DiskSource::Volume { pool, name } => {
            let project = projects::effective(&*daemon.store, &record.project, Feature::StorageVolumes)?;
            let key = keys::volume(pool, &project, "custom", name);
            let Some((found, _)) = store::get_as::<StorageVolume>(&*daemon.store, &key)? else {
                return Err(ApiError::not_found("Storage volume").context(format!(
                    "Failed start validation for device {:?}: Failed loading custom volume {name:?}",
                    disk.device
                )));
            };
            let content = if found.content_type == "block" {
                storage::ContentType::Block
            } else {
                storage::ContentType::Filesystem
            };
            let id = storage::VolumeId {
                kind: storage::VolumeKind::Custom,
                content,
                name: crate::paths::StatePaths::disk_name(&project, name),
            };
            Ok(daemon.pools.get(pool)?.path(&id))
        }
    }
}

/// What the record says before the first link is made, so that the next daemon knows what to look for.
fn note(record: &mut InstanceRecord, planned: &Planned) {
    ports::forget(record);
    ports::note(record, &planned.ports);
    if !record.is_vm() {
        let map = ids::volatile_map(planned.ids);
        record.set_volatile(
            "idmap.base",
            Some(planned.ids.map_or(0, |(base, _)| base).to_string()),
        );
        record.set_volatile("idmap.current", Some(map.clone()));
        record.set_volatile("idmap.next", Some(map));
    } else if let Some((base, _)) = planned.ids {
        record.set_volatile("idmap.base", Some(base.to_string()));
    }
}

async fn run(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    record: InstanceRecord,
    mut planned: Planned,
) -> Result<Arc<Running>, ApiError> {
    let manager = &daemon.instances;
    let kind = record.kind;
    ports::reserve(daemon, &record, &mut planned.ports).await?;
    crash::point(Step::StartReserved);

    let (run_dir, log_dir) = (manager.run_dir(&record), manager.log_dir(&record));
    make_directories(&run_dir, &log_dir)?;
    if record.is_vm() {
        ports::open_taps(daemon, &mut planned.ports).await?;
    }
    let veths = if record.is_vm() {
        Vec::new()
    } else {
        copy_ports(&planned.ports)
    };
    let server_kernel =
        store::get_as::<api::Map>(&*daemon.store, keys::SERVER_CONFIG)?.and_then(|(config, _)| {
            config
                .get("virga.kernel")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        });
    let plan = StartPlan {
        record,
        config: planned.config,
        run_dir: run_dir.clone(),
        log_dir,
        root: planned.root,
        root_read_only: planned.root_read_only,
        disks: planned.disks,
        ports: planned.ports,
        ids: planned.ids,
        server_kernel,
    };
    let worker = Arc::clone(daemon);
    let launch = manager
        .with_driver(kind, move |driver| {
            if !plan.record.is_vm() {
                let occasion = plan.record.volatile("apply_template");
                templates::apply(&worker, &plan.record, &plan.config, &plan.root, occasion)?;
            }
            driver.prepare(plan)
        })
        .await?;
    crash::point(Step::StartPrepared);
    let supervisor = blocking(move || supervisor::launch(launch)).await?;
    crash::point(Step::StartSpawned);
    match finish(daemon, lock, kind, &run_dir, &veths).await {
        Ok(pid) => {
            let running = Running::new(kind, run_dir, supervisor, pid, Timestamp::now(), Inside::Running);
            Ok(Arc::new(running))
        }
        Err(error) => {
            end_failed(supervisor).await;
            Err(error)
        }
    }
}

/// The steps with a supervisor that holds the instance; returns the process to show.
async fn finish(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    kind: InstanceType,
    run_dir: &std::path::Path,
    veths: &[Port],
) -> Result<i32, ApiError> {
    let manager = &daemon.instances;
    let dir = run_dir.to_path_buf();
    let report = manager
        .with_driver(kind, move |driver| driver.report(&dir))
        .await?;
    ports::plug_veths(daemon, veths, report.pid).await?;
    crash::point(Step::StartPlugged);
    let dir = run_dir.to_path_buf();
    manager
        .with_driver(kind, move |driver| driver.release(&dir))
        .await?;
    crash::point(Step::StartReleased);
    let (project, name) = lock.key();
    record::update(&*daemon.store, project, name, |record| {
        record.set_volatile("last_state.power", Some("RUNNING".to_owned()));
        record.set_volatile("apply_template", None);
        record.last_used_at = Timestamp::now();
        Ok(())
    })?;
    crash::point(Step::StartDone);
    Ok(report.pid)
}

async fn end_failed(supervisor: Supervisor) {
    let ended = blocking(move || Ok(supervisor::kill(&supervisor, KILL_PATIENCE))).await;
    if ended != Ok(true) {
        tracing::warn!("the supervisor of a failed start does not die");
    }
}

/// An empty run directory and a log directory.
fn make_directories(run_dir: &std::path::Path, log_dir: &std::path::Path) -> Result<(), ApiError> {
    use std::os::unix::fs::DirBuilderExt;
    stop::remove_tree(run_dir)?;
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o711);
    builder.create(run_dir)?;
    builder.mode(0o700);
    builder.create(log_dir)?;
    Ok(())
}

/// What is needed of a container's cards after the plan has been given away.
fn copy_ports(ports: &[Port]) -> Vec<Port> {
    ports
        .iter()
        .map(|port| Port {
            nic: port.nic.clone(),
            bridge: port.bridge.clone(),
            host_name: port.host_name.clone(),
            hwaddr: port.hwaddr,
            reserved: port.reserved.clone(),
            tap: None,
        })
        .collect()
}
