//! Virtual machines: a `virga-vmm` each.
//!
//! A container image boots as a microVM: guest kernel, `virga-agent` from an initrd that all machines share, a small initrd
//! with the machine's identity, and the image's root file system as a raw ext4 disk.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use guest_agent::config::{Cidr, GuestConfig, InitMode, NicConfig, RootConfig};
use serde_json::json;
use vmm::client::Client;
use vmm::config::VmConfig;
use vmm::control::state::VmState;
use vmm::probe::KvmKind;

use super::{Driver, Inside, Report, Usage};
use crate::ApiError;
use crate::instances::expand::Expanded;
use crate::instances::limits;
use crate::instances::plan::{Port, StartPlan};
use crate::instances::supervisor::{self, Launch};
use crate::paths::StatePaths;

/// What every microVM's kernel is told. `panic=-1` makes a panic a reset at once, which the VMM reports. How to reset is
/// left to ACPI: a triple fault (`reboot=t`) could not be told from a crash.
const CMDLINE: &str = "console=ttyS0 panic=-1 random.trust_cpu=on quiet";
/// The guest's vsock address. Each VM has a vsock device of its own that leads to a unix socket of its own, so all may have
/// the same.
const GUEST_CID: u32 = 3;
/// How long the agent may take to answer the connection itself.
const AGENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Runs virtual machines even where the probe says that they will not get far: for tests of everything around them.
const FORCE: &str = "VIRGA_FORCE_VM";

/// Whether this host can run virtual machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmSupport {
    /// It can.
    Yes,
    /// It cannot, for this reason.
    No(String),
}

/// Runs virtual machines.
#[derive(Debug)]
pub struct VmDriver {
    paths: StatePaths,
    support: OnceLock<VmSupport>,
}

impl VmDriver {
    pub(super) fn new(paths: StatePaths) -> Self {
        Self {
            paths,
            support: OnceLock::new(),
        }
    }

    /// Found out once, with a payload guest of a few instructions.
    pub(super) fn support(&self) -> &VmSupport {
        self.support.get_or_init(|| {
            if std::env::var_os(FORCE).is_some() {
                tracing::warn!("virtual machines are offered without looking, as {FORCE} asks");
                return VmSupport::Yes;
            }
            match vmm::probe::probe() {
                KvmKind::Hardware { .. } => VmSupport::Yes,
                KvmKind::None { reason } => VmSupport::No(format!("this host has no usable KVM: {reason}")),
                KvmKind::Software { reason } => {
                    VmSupport::No(format!("this host's KVM cannot run ordinary guests: {reason}"))
                }
            }
        })
    }

    /// The guest kernel: the instance's, the server's, the environment's or the state directory's.
    fn kernel(&self, plan: &StartPlan) -> Result<PathBuf, ApiError> {
        let own = plan.config.get("virga.boot.kernel");
        let wanted = [
            (!own.is_empty()).then(|| PathBuf::from(own)),
            plan.server_kernel.clone(),
            std::env::var_os("VIRGA_KERNEL").map(PathBuf::from),
        ];
        let default = self.paths.root().join("kernel/vmlinux");
        // Beside the programs, where an installation has it: PREFIX/bin and PREFIX/share/virga.
        let installed = std::env::current_exe()
            .ok()
            .and_then(|program| Some(program.parent()?.parent()?.join("share/virga/vmlinux")))
            .filter(|path| !default.is_file() && path.is_file());
        let path = wanted
            .into_iter()
            .flatten()
            .next()
            .or(installed)
            .unwrap_or(default);
        if path.is_file() {
            return Ok(path);
        }
        Err(ApiError::bad_request(format!(
            "There is no guest kernel at {}: set virga.kernel in the server's configuration, or VIRGA_KERNEL",
            path.display()
        )))
    }

    /// The initrd with the agent, made once for each build of the agent.
    fn agent_initrd(&self) -> Result<PathBuf, ApiError> {
        use std::os::unix::fs::MetadataExt;
        let agent = supervisor::program("virga-agent")?;
        let metadata = std::fs::metadata(&agent)?;
        let directory = self.paths.root().join("cache");
        std::fs::create_dir_all(&directory)?;
        let name = format!(
            "agent-{}-{}-{}.cpio",
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        let path = directory.join(&name);
        if path.is_file() {
            return Ok(path);
        }
        let archive = guest_agent::initrd::init_archive(&agent)?;
        // Several starts may do this at once; each writes its own file and the last rename wins with the same content.
        let mut file = tempfile::NamedTempFile::new_in(&directory)?;
        std::io::Write::write_all(&mut file, &archive)?;
        file.persist(&path).map_err(|error| error.error)?;
        // Only older builds' archives go: the names of this one are equal.
        for entry in std::fs::read_dir(&directory)?.flatten() {
            let other = entry.file_name().to_string_lossy().into_owned();
            if other.starts_with("agent-") && other != name {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(path)
    }
}

fn failed(error: &vmm::client::ClientError) -> ApiError {
    ApiError::from_error(error)
}

fn client(run_dir: &Path) -> Client {
    Client::at(run_dir.join("control.sock"))
}

/// What the guest is told about itself.
fn guest_config(plan: &StartPlan) -> GuestConfig {
    let environment = plan
        .config
        .config
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("environment.")?.to_owned(), value.clone())))
        .collect();
    GuestConfig {
        hostname: plan.record.name.clone(),
        root: RootConfig {
            read_only: plan.root_read_only,
            grow: !plan.root_read_only,
            ..RootConfig::default()
        },
        nics: plan.ports.iter().map(guest_nic).collect(),
        init: match plan.config.get("virga.boot.init") {
            "agent" => InitMode::None,
            _ => InitMode::Image,
        },
        environment,
        ..GuestConfig::default()
    }
}

fn guest_nic(port: &Port) -> NicConfig {
    let reserved = port.reserved.as_ref();
    NicConfig {
        hwaddr: port.hwaddr.to_string(),
        name: port.nic.name.clone(),
        addresses: port
            .addresses()
            .into_iter()
            .map(|(address, prefix)| Cidr { address, prefix })
            .collect(),
        gateway4: reserved
            .filter(|reserved| reserved.ipv4.is_some())
            .and_then(|reserved| reserved.gateway4),
        gateway6: reserved
            .filter(|reserved| reserved.ipv6.is_some())
            .and_then(|reserved| reserved.gateway6),
        dns: reserved.map(|reserved| reserved.dns.clone()).unwrap_or_default(),
        search: reserved
            .map(|reserved| reserved.search.clone())
            .unwrap_or_default(),
        mtu: port.mtu(),
    }
}

/// Serial numbers have at most 20 characters (virtio 1.3 §5.2.6).
fn serial(device: &str) -> String {
    device.chars().filter(char::is_ascii_graphic).take(20).collect()
}

impl Driver for VmDriver {
    fn prepare(&self, mut plan: StartPlan) -> Result<Launch, ApiError> {
        if let VmSupport::No(reason) = self.support() {
            return Err(ApiError::bad_request(format!(
                "Virtual machines cannot run here: {reason}"
            )));
        }
        let (vcpus, memory_bytes) = limits::of_vm(&plan.config)?;
        let kernel = self.kernel(&plan)?;
        let archive = guest_agent::initrd::config_archive(&guest_config(&plan))?;
        let config_initrd = plan.run_dir.join("config.cpio");
        std::fs::write(&config_initrd, archive)?;
        let mut cmdline = CMDLINE.to_owned();
        let more = plan.config.get("virga.boot.cmdline");
        if !more.is_empty() {
            cmdline.push(' ');
            cmdline.push_str(more);
        }

        let mut disks = vec![json!({
            "id": "root",
            "path": plan.root,
            "read_only": plan.root_read_only,
            "serial": serial(&plan.record.name),
        })];
        for (index, (disk, source)) in plan.disks.iter().enumerate() {
            disks.push(json!({
                "id": format!("disk{index}"),
                "path": source,
                "read_only": disk.read_only,
                "serial": serial(&disk.device),
            }));
        }
        let mut nets = Vec::new();
        let mut descriptors = Vec::new();
        for (index, port) in plan.ports.iter_mut().enumerate() {
            let tap = port
                .tap
                .take()
                .ok_or_else(|| ApiError::internal(format!("the tap of {:?} is not open", port.nic.device)))?;
            nets.push(json!({
                "id": format!("net{index}"),
                "fd": tap.as_raw_fd(),
                "mac": port.hwaddr,
                "mtu": port.mtu(),
            }));
            descriptors.push(tap);
        }
        // As a document, because that is what the VMM reads; what is not said here has the VMM's own default.
        let document = json!({
            "name": plan.record.disk_name(),
            "vcpus": vcpus,
            "memory_bytes": memory_bytes,
            "transport": match plan.config.get("virga.boot.transport") {
                "" => "pci",
                transport => transport,
            },
            "kernel": { "path": kernel, "cmdline": cmdline, "initrd": [self.agent_initrd()?, config_initrd] },
            "serial": { "log": plan.log_dir.join("console.log"), "socket": "console.sock" },
            "disks": disks,
            "nets": nets,
            "vsock": { "cid": GUEST_CID, "socket": "vsock.sock" },
            "run_dir": plan.run_dir,
            "sandbox": { "uid": plan.ids.map(|(base, _)| base) },
            "autostart": false,
        });
        let config: VmConfig = serde_json::from_value(document)?;
        config
            .check()
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let spec = plan.run_dir.join("spec.json");
        std::fs::write(&spec, serde_json::to_vec(&config)?)?;
        Ok(Launch {
            program: supervisor::program("virga-vmm")?,
            arguments: vec!["--config".to_owned(), spec.to_string_lossy().into_owned()],
            log: plan.log_dir.join("virga.log"),
            run_dir: plan.run_dir,
            descriptors,
            is_alone: true,
        })
    }

    fn report(&self, run_dir: &Path) -> Result<Report, ApiError> {
        let state = client(run_dir).state().map_err(|error| failed(&error))?;
        let inside = match state.state {
            VmState::Created => Inside::Held,
            VmState::Running => Inside::Running,
            VmState::Paused => Inside::Frozen,
            VmState::Stopping => Inside::Ended,
        };
        Ok(Report {
            inside,
            pid: i32::try_from(state.pid).unwrap_or_default(),
        })
    }

    fn release(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir).start().map_err(|error| failed(&error))
    }

    fn ask_to_stop(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir).power_button().map_err(|error| failed(&error))
    }

    fn kill(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir).stop().map_err(|error| failed(&error))
    }

    fn freeze(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir).pause().map_err(|error| failed(&error))
    }

    fn thaw(&self, run_dir: &Path) -> Result<(), ApiError> {
        client(run_dir).resume().map_err(|error| failed(&error))
    }

    fn usage(&self, run_dir: &Path) -> Result<Usage, ApiError> {
        let pid = self.report(run_dir)?.pid;
        let (memory, memory_peak) = resident(pid);
        Ok(Usage {
            cpu_ns: cpu_time(pid),
            memory,
            memory_peak,
            memory_limit: Some(
                client(run_dir)
                    .state()
                    .map_err(|error| failed(&error))?
                    .memory_bytes,
            ),
            swap: 0,
            processes: None,
        })
    }

    fn agent(&self, run_dir: &Path) -> Result<UnixStream, ApiError> {
        let not_there = || ApiError::bad_request("VM agent isn't currently running");
        let mut stream =
            guest_agent::socket::connect(&run_dir.join("vsock.sock")).map_err(|_| not_there())?;
        stream.set_read_timeout(Some(AGENT_TIMEOUT))?;
        stream.set_write_timeout(Some(AGENT_TIMEOUT))?;
        connect_port(&mut stream, guest_agent::protocol::VSOCK_PORT).ok_or_else(not_there)?;
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok(stream)
    }

    fn set_limits(&self, _run_dir: &Path, _config: &Expanded) -> Result<bool, ApiError> {
        Ok(false)
    }

    fn console_size(&self, _run_dir: &Path, _width: u16, _height: u16) -> Result<(), ApiError> {
        // A serial line has no size.
        Ok(())
    }

    fn clean_up(&self, _run_dir: &Path) -> Result<(), ApiError> {
        // A VM is one process: nothing of it lies anywhere else, and its tap goes with its descriptors.
        Ok(())
    }
}

/// Asks the vsock device for a port of the guest (`CONNECT n`, answered by `OK m`), reading not a byte too many.
fn connect_port(stream: &mut UnixStream, port: u32) -> Option<()> {
    use std::io::{Read, Write};
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    // "OK 4294967295\n" is the longest one.
    while answer.len() < 16 {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        if byte[0] == b'\n' {
            return answer.starts_with(b"OK ").then_some(());
        }
        answer.push(byte[0]);
    }
    None
}

/// Processor time of a process with all its threads, in nanoseconds.
fn cpu_time(pid: i32) -> u64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return 0;
    };
    // Fields 14 and 15 of proc(5), counted from field 3 behind the name.
    let ticks: u64 = text
        .rsplit_once(')')
        .map(|(_, rest)| {
            rest.split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|word| word.parse::<u64>().ok())
                .sum()
        })
        .unwrap_or_default();
    // SAFETY: sysconf has no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
    ticks * (1_000_000_000 / per_second)
}

/// Resident memory of a process now and at most, in bytes.
fn resident(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    (value("VmRSS:"), value("VmHWM:"))
}

#[cfg(test)]
#[path = "vm_tests.rs"]
mod tests;
