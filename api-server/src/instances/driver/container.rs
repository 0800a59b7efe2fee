//! Containers: a `virga-run monitor` each.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;

use container_runtime::client::Client;
use container_runtime::rootfs::lookup::RootDir;
use container_runtime::spec::{ContainerSpec, IdMap, Mount};
use container_runtime::state::Phase;

use super::{Driver, Inside, Report, Usage};
use crate::ApiError;
use crate::instances::devices::Disk;
use crate::instances::expand::Expanded;
use crate::instances::limits;
use crate::instances::plan::StartPlan;
use crate::instances::supervisor::{self, Launch};

/// First processes that are tried in this order, as the kernel does for a machine (init/main.c).
const INITS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

/// Runs containers.
#[derive(Debug)]
pub struct ContainerDriver;

fn failed(error: &container_runtime::Error) -> ApiError {
    ApiError::from_error(error)
}

fn client(run_dir: &Path) -> Result<Client, ApiError> {
    Client::connect(run_dir).map_err(|error| failed(&error))
}

/// The first process of a root file system.
fn find_init(root: &Path) -> Result<Vec<String>, ApiError> {
    let inside = RootDir::open(root).map_err(|error| {
        ApiError::internal(format!(
            "Failed to open the root file system {}: {error}",
            root.display()
        ))
    })?;
    INITS
        .iter()
        .find(|path| inside.real_path(path).is_some())
        .map(|path| vec![(*path).to_owned()])
        .ok_or_else(|| {
            ApiError::bad_request(
                "The root file system has none of /sbin/init, /etc/init, /bin/init and /bin/sh to start",
            )
        })
}

fn mount(disk: &Disk, source: &Path, has_ids: bool) -> Mount {
    Mount {
        source: source.to_string_lossy().into_owned(),
        target: disk.path.clone(),
        fstype: None,
        options: if disk.recursive {
            vec!["rbind".to_owned()]
        } else {
            Vec::new()
        },
        read_only: disk.read_only,
        // Custom volumes are stored with plain ids like roots.
        shift: has_ids
            && (disk.shift || matches!(disk.source, crate::instances::devices::DiskSource::Volume { .. })),
        optional: !disk.required,
    }
}

fn prefixed(config: &Expanded, prefix: &str) -> BTreeMap<String, String> {
    config
        .config
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
        .collect()
}

impl Driver for ContainerDriver {
    fn prepare(&self, plan: StartPlan) -> Result<Launch, ApiError> {
        let init = find_init(&plan.root)?;
        let words: Vec<&str> = init.iter().map(String::as_str).collect();
        let mut spec = ContainerSpec::new(
            &plan.record.disk_name(),
            &plan.root,
            plan.log_dir.join("console.log"),
            &words,
        );
        spec.hostname.clone_from(&plan.record.name);
        spec.environment = prefixed(&plan.config, "environment.");
        spec.sysctls = prefixed(&plan.config, "linux.sysctl.");
        spec.idmap = plan.ids.map(|(host_base, range)| IdMap { host_base, range });
        spec.limits = limits::of_container(&plan.config)?;
        spec.nesting = plan.config.is_true("security.nesting");
        spec.nics = plan.ports.iter().map(|port| port.nic.name.clone()).collect();
        spec.mounts = plan
            .disks
            .iter()
            .map(|(disk, source)| mount(disk, source, plan.ids.is_some()))
            .collect();
        spec.validate()
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        std::fs::write(plan.run_dir.join("spec.json"), serde_json::to_vec(&spec)?)?;
        Ok(Launch {
            program: supervisor::program("virga-run")?,
            arguments: vec![
                "monitor".to_owned(),
                "--run-dir".to_owned(),
                plan.run_dir.to_string_lossy().into_owned(),
            ],
            log: plan.log_dir.join("virga.log"),
            run_dir: plan.run_dir,
            descriptors: Vec::new(),
            is_alone: false,
        })
    }

    fn report(&self, run_dir: &Path) -> Result<Report, ApiError> {
        let state = client(run_dir)?.state().map_err(|error| failed(&error))?;
        let inside = match state.state {
            Phase::Created => Inside::Held,
            Phase::Running => Inside::Running,
            Phase::Frozen => Inside::Frozen,
            Phase::Stopped => Inside::Ended,
        };
        Ok(Report {
            inside,
            pid: state.init_pid,
        })
    }

    fn release(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir)?.start().map_err(|error| failed(&error))
    }

    fn ask_to_stop(&self, run_dir: &Path) -> Result<(), ApiError> {
        let client = client(run_dir)?;
        let signal = client.state().map_err(|error| failed(&error))?.stop_signal;
        client.kill(signal).map_err(|error| failed(&error))
    }

    fn kill(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir)?
            .kill(libc::SIGKILL)
            .map_err(|error| failed(&error))
    }

    fn freeze(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir)?.freeze().map_err(|error| failed(&error))
    }

    fn thaw(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir)?.thaw().map_err(|error| failed(&error))
    }

    fn usage(&self, run_dir: &Path) -> Result<Usage, ApiError> {
        let metrics = client(run_dir)?.metrics().map_err(|error| failed(&error))?;
        Ok(Usage {
            cpu_ns: metrics.cpu_usage_ns,
            memory: metrics.memory_bytes,
            memory_peak: metrics.memory_peak_bytes,
            memory_limit: metrics.memory_limit_bytes,
            swap: metrics.swap_bytes,
            processes: Some(metrics.pids),
        })
    }

    fn agent(&self, run_dir: &Path) -> Result<UnixStream, ApiError> {
        let program = supervisor::program("virga-run")?;
        container_runtime::agent::attach(&program, run_dir)
            .map_err(|error| ApiError::internal(format!("Failed to enter the container: {error}")))
    }

    fn set_limits(&self, run_dir: &Path, config: &Expanded) -> Result<bool, ApiError> {
        let limits = limits::of_container(config)?;
        client(run_dir)?
            .set_limits(&limits)
            .map_err(|error| failed(&error))?;
        Ok(true)
    }

    fn console_size(&self, run_dir: &Path, width: u16, height: u16) -> Result<(), ApiError> {
        client(run_dir)?
            .console_size(width, height)
            .map_err(|error| failed(&error))
    }

    fn clean_up(&self, run_dir: &Path) -> Result<(), ApiError> {
        container_runtime::cleanup(run_dir).map_err(|error| failed(&error))
    }
}
