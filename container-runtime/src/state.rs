//! What a monitor tells the world: its state, its measurements, and the three files it leaves in the run directory.

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Namespaces and the init process exist; init is held before its exec until `PUT /start`.
    Created,
    /// The init process runs.
    Running,
    /// All processes are frozen.
    Frozen,
    /// The init process has ended.
    Stopped,
}

/// Answer of `GET /state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where the container is in its life.
    pub state: Phase,
    /// The init process as the host sees it; its `/proc/N/ns/*` are the container's namespaces.
    pub init_pid: i32,
    /// The monitor's own process.
    pub pid: i32,
    /// The signal that asks this container's init for a clean shutdown.
    pub stop_signal: i32,
    /// The signal that asks it for a reboot, where its init system knows one.
    pub reboot_signal: Option<i32>,
}

/// Answer of `GET /metrics`, read from the container's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metrics {
    /// Processor time used by all processes so far, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory charged now, in bytes.
    pub memory_bytes: u64,
    /// The most memory that was ever charged, in bytes; 0 where the kernel does not count it.
    pub memory_peak_bytes: u64,
    /// The memory limit, where there is one.
    pub memory_limit_bytes: Option<u64>,
    /// Swap charged now, in bytes.
    pub swap_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Limit on processes and threads, where there is one.
    pub pids_limit: Option<u64>,
    /// How many processes the kernel has killed because the memory limit was reached.
    pub oom_kills: u64,
}

/// `pid.json`: says that the monitor accepts on its control socket, and how to recognise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidFile {
    /// The monitor.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`, so that a recycled pid is not taken for the monitor.
    pub start_time: u64,
}

/// `container.json`: what is needed to join the container or to clean up after its monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFile {
    /// The init process as the host sees it.
    pub init_pid: i32,
    /// Field 22 of its `/proc/PID/stat`.
    pub init_start_time: u64,
    /// Directory below each cgroup mount that holds the container, for example `virga/c1-1a2b3c4d`.
    pub cgroup: String,
}

/// Why a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitReason {
    /// The init system powered off or halted.
    Poweroff,
    /// The init system asked for a reboot: start it again.
    Reset,
    /// Never used by containers; kept because all supervisors write the same document.
    Panic,
    /// A signal killed the init process.
    Killed,
    /// The container could not be made or its init not be executed.
    Error,
    /// The init process ended with an exit status.
    Exited,
}

/// `exit.json`: the monitor's last act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitFile {
    /// Why it ended.
    pub reason: ExitReason,
    /// Exit status 0 to 255, or 128 + signal.
    pub status: Option<i32>,
    /// One sentence for people.
    pub message: String,
    /// Processes killed for lack of memory during this run.
    #[serde(default)]
    pub oom_kills: u64,
}
