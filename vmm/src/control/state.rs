//! The documents that the control socket speaks, shared by the server, the client and the daemon.

use std::collections::BTreeMap;

use devices::metrics::Histogram;
use serde::{Deserialize, Serialize};

/// Phase of a VM's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmState {
    /// Built, no instruction of the guest has run.
    Created,
    /// vCPUs run.
    Running,
    /// vCPUs and devices stand still.
    Paused,
    /// On its way to `exit.json`.
    Stopping,
}

/// `GET /state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateInfo {
    /// Phase.
    pub state: VmState,
    /// Process id of the VMM, where it was started.
    pub pid: u32,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// Guest memory.
    pub memory_bytes: u64,
    /// How the process is confined.
    #[serde(default)]
    pub sandbox: SandboxState,
    /// What a debugger does, where one can come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debugger: Option<DebuggerState>,
}

/// What a debugger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DebuggerState {
    /// There is none.
    Listening,
    /// There is none, and the guest waits for one.
    Waiting,
    /// It lets the guest run.
    Running,
    /// It has stopped the guest.
    Stopped,
}

/// How a VMM's process is confined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// What is in force.
    pub in_force: Vec<String>,
    /// What is switched on but cannot be had, with the reason.
    pub missing: Vec<String>,
}

/// Whether a device stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// It is there.
    #[default]
    Present,
    /// The guest has been asked to let go of it.
    Removing,
}

/// One entry of `GET /devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// Name from the configuration, or the kind for devices that have none.
    pub id: String,
    /// `block`, `net`, `vsock`, `rng`, `console`, `serial`.
    pub kind: String,
    /// Where the guest finds it: `00:01.0` on PCI, an address for MMIO and ports.
    pub address: String,
    /// Whether it stays.
    #[serde(default)]
    pub state: DeviceState,
}

/// `boot` in `GET /metrics`: microseconds from the start of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTimes {
    /// Start of the process to the first `KVM_RUN`; `None` before it. This is `first_run_from_main` unless the
    /// process was told by `--start-time-us` when it was started, in which case exec and linking count too.
    pub first_run_us: Option<u64>,
    /// First line of `main` to the first `KVM_RUN`.
    pub first_run_from_main_us: Option<u64>,
    /// First line of `main` to the VM being built.
    pub built_us: u64,
    /// Of it: loading kernel, initrds and tables.
    pub loaded_us: u64,
}

/// How long something took, in buckets of powers of two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were counted.
    pub count: u64,
    /// Microseconds in all.
    pub sum_us: u64,
    /// Entry *i* counts what took less than 2^i microseconds, and no less than the entry before.
    pub log2_us: Vec<u64>,
}

impl From<&Histogram> for Latency {
    fn from(histogram: &Histogram) -> Self {
        let log2_us = histogram.counts();
        Self {
            count: log2_us.iter().sum(),
            sum_us: histogram.sum_us(),
            log2_us,
        }
    }
}

/// Exits of one vCPU to this process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuMetrics {
    /// By the reasons that KVM gives for them: how many, and how long this process took, from the return of `KVM_RUN` until
    /// the vCPU could go back or was to stand still. The names are those of `KVM_EXIT_*` (KVM API §5) in small letters, with
    /// `io_in`, `io_out`, `mmio_read` and `mmio_write` apart; `eagain` and `error` are failures of `KVM_RUN`, `other` is a
    /// newer KVM's reason. Those that have not occurred are left out.
    pub exits: BTreeMap<String, Latency>,
    /// Accesses to ports and addresses that no device owns.
    pub unclaimed: u64,
}

impl VcpuMetrics {
    /// How many exits there were for this reason.
    #[must_use]
    pub fn count(&self, reason: &str) -> u64 {
        self.exits.get(reason).map_or(0, |exits| exits.count)
    }
}

/// `GET /metrics`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// How long the start took.
    pub boot: BootTimes,
    /// One entry for each vCPU.
    pub vcpus: Vec<VcpuMetrics>,
    /// Resident memory of the process.
    pub resident_bytes: u64,
    /// Of `resident_bytes`, what is not guest memory.
    pub overhead_bytes: u64,
    /// The devices' own counters, by id.
    pub devices: BTreeMap<String, serde_json::Value>,
    /// A debugger's, where one can come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debugger: Option<serde_json::Value>,
}
