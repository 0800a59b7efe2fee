//! Drivers: what is special to containers and to virtual machines. The rest of the module does not know which is which.
//!
//! All functions block (files and control sockets, each with a time limit); callers are on threads for that.

mod container;
mod vm;

use std::os::unix::net::UnixStream;
use std::path::Path;

use api::InstanceType;

pub use container::ContainerDriver;
pub use vm::{VmDriver, VmSupport};

use super::plan::StartPlan;
use super::supervisor::Launch;
use crate::ApiError;

/// Where the inside of an instance stands, as its supervisor tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// Built and held.
    Held,
    /// Running.
    Running,
    /// Frozen.
    Frozen,
    /// Ended or ending.
    Ended,
}

/// What a supervisor tells about its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Where it stands.
    pub inside: Inside,
    /// The process that the API shows: a container's first process, a virtual machine's VMM.
    pub pid: i32,
}

/// What an instance uses, as far as the host can see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// The most memory so far.
    pub memory_peak: u64,
    /// The limit, if there is one.
    pub memory_limit: Option<u64>,
    /// Swap in bytes.
    pub swap: u64,
    /// Processes; `None` when only the inside knows.
    pub processes: Option<u64>,
}

/// One kind of instance.
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// Writes everything the supervisor reads into the run directory and says how to run it. The instance will be held until
    /// [`Self::release`].
    fn prepare(&self, plan: StartPlan) -> Result<Launch, ApiError>;

    /// Asks the supervisor where it stands.
    fn report(&self, run_dir: &Path) -> Result<Report, ApiError>;

    /// Lets the held instance run.
    fn release(&self, run_dir: &Path) -> Result<(), ApiError>;

    /// Asks the inside for a clean end; returns at once.
    fn ask_to_stop(&self, run_dir: &Path) -> Result<(), ApiError>;

    /// Asks the supervisor to end the instance now; returns at once.
    fn kill(&self, run_dir: &Path) -> Result<(), ApiError>;

    /// Stops everything where it is.
    fn freeze(&self, run_dir: &Path) -> Result<(), ApiError>;

    /// Lets it go on.
    fn thaw(&self, run_dir: &Path) -> Result<(), ApiError>;

    /// What it uses.
    fn usage(&self, run_dir: &Path) -> Result<Usage, ApiError>;

    /// A stream to its agent that has not been used yet. For a virtual machine the vsock handshake is done.
    fn agent(&self, run_dir: &Path) -> Result<UnixStream, ApiError>;

    /// Applies changed limits to the running instance. `false`: that needs a restart.
    fn set_limits(&self, run_dir: &Path, config: &super::expand::Expanded) -> Result<bool, ApiError>;

    /// Tells the console how large the client's terminal is.
    fn console_size(&self, run_dir: &Path, width: u16, height: u16) -> Result<(), ApiError>;

    /// Removes what a dead supervisor left outside of the run directory.
    fn clean_up(&self, run_dir: &Path) -> Result<(), ApiError>;
}

/// Both drivers.
#[derive(Debug)]
pub struct Drivers {
    container: ContainerDriver,
    vm: VmDriver,
}

impl Drivers {
    /// Finds out what this host can run.
    pub fn new(paths: crate::paths::StatePaths) -> Self {
        Self {
            container: ContainerDriver,
            vm: VmDriver::new(paths),
        }
    }

    /// The driver of a kind of instance.
    pub fn of(&self, kind: InstanceType) -> &dyn Driver {
        match kind {
            InstanceType::Container => &self.container,
            InstanceType::VirtualMachine => &self.vm,
        }
    }

    /// Whether virtual machines can run here, and why not.
    pub fn vm_support(&self) -> &VmSupport {
        self.vm.support()
    }
}
