//! A whole machine: everything the configuration names, opened, wired and loaded; then its life as seen from outside.
//!
//! [`Blueprint`] opens host resources and loads the kernel while the process still has its privileges;
//! [`Machine`] runs it afterwards. The control thread owns the machine.

mod platform;
mod plug;
mod processors;

use std::io;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use devices::bus::{Bus, BusError};
use devices::hotplug::Hotplug;
use devices::metrics::Metrics as _;
use devices::virtio::device::DeviceError;
use devices::virtio::update::UpdateError;
use thiserror::Error;

use crate::affinity::AffinityError;
use crate::arch::cpuid::model::ModelError;
use crate::attach::{AttachError, Attached, Slots};
use crate::clock::BootClock;
use crate::config::{ConfigError, VmConfig};
use crate::control::state::{DeviceInfo, Metrics, VmState};
use crate::device_manager::{ApartError, DeviceManager};
use crate::events::Events;
use crate::exit_signal::ExitSignal;
use crate::gdb::link::Link;
use crate::gdb::server::Debugger;
use crate::kvm::debug;
use crate::kvm::processors::Processors;
use crate::kvm::run_control::{ALL, RunControl, Wanted};
use crate::kvm::vcpu::{Vcpu, VcpuContext};
use crate::kvm::vm::{KvmError, Vm};
use crate::loader::LoadError;
use crate::memory::{MemoryError, Ram};
use crate::process::Process;
use crate::sandbox::seccomp::Filters;
use crate::usage;
use crate::watchdog::{Stopper, Watchdog};
pub use plug::Removal;

/// How long vCPUs may take to leave the guest. They do within microseconds unless the host is overloaded.
const STILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The same at the end, when a thread may be stuck for good in a refused system call.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a machine could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// Guest memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// KVM.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The processor model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Pinning of threads.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
    /// What the configuration asks for together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Kernel or initrd, with the field and path it came from.
    #[error("cannot load {field} {path:?}: {source}")]
    Load {
        /// Field of the configuration.
        field: String,
        /// Path as resolved.
        path: std::path::PathBuf,
        /// What is wrong.
        source: LoadError,
    },
    /// The command line is longer than this kernel reads.
    #[error("kernel.cmdline has {len} bytes, this kernel reads at most {most}")]
    Cmdline {
        /// Its length.
        len: usize,
        /// The kernel's limit.
        most: u32,
    },
    /// A device.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Two devices at one address: a defect of this program.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A system resource.
    #[error("cannot get {what}: {source}")]
    Resource {
        /// Which one.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a request for a machine was not carried out.
#[derive(Debug, Error)]
pub enum LifeError {
    /// It does not fit the phase.
    #[error("cannot {request}: the VM is {state}")]
    Phase {
        /// What was asked.
        request: &'static str,
        /// What the VM does.
        state: &'static str,
    },
    /// vCPUs do not leave the guest.
    #[error(
        "cannot pause: a vCPU did not leave the guest within {0:?}; the host may be overloaded, try again"
    )]
    NotStill(Duration),
    /// A device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is no device of this name, or none that can be changed.
    #[error("there is no device {0:?} that can be changed; GET /devices lists them")]
    NoDevice(String),
    /// A device did not follow an update.
    #[error("device {id:?}: {source}")]
    Update {
        /// Its id.
        id: String,
        /// Why.
        source: UpdateError,
    },
    /// The device belongs to the machine.
    #[error("device {0:?} cannot be removed; disks, nets and the vsock device can")]
    Stays(String),
    /// The machine has no PCI bus.
    #[error(
        "devices come and go on the PCI bus only: virtio-mmio devices are announced once, in the ACPI tables; use \"transport\": \"pci\""
    )]
    NoSlots,
    /// The machine was made without this device.
    #[error("the machine has no {device}; set `{field}` in its configuration")]
    Absent {
        /// Which one.
        device: &'static str,
        /// Field that gives it one.
        field: &'static str,
    },
    /// Guest memory cannot be written: a defect of this program.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// So many processors cannot be.
    #[error("the VM can have 1 to {most} vCPUs, not {count}; `cpu.max` in its configuration sets the limit")]
    Processors {
        /// What was asked for.
        count: u8,
        /// The most.
        most: u8,
    },
    /// KVM does not make a vCPU.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The new device does not fit into the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The new device could not be made or put into its place.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The new device was not made in time.
    #[error("cannot make the device: {0}")]
    Make(#[from] ApartError),
    /// The thread that makes devices is gone: a defect of this program.
    #[error("the thread that makes devices does not answer")]
    NoManager,
    /// An interrupt could not be raised.
    #[error("cannot tell the guest: {0}")]
    Event(#[source] io::Error),
}

/// A machine that is complete but for its vCPU threads.
pub struct Blueprint {
    pub(crate) config: VmConfig,
    pub(crate) memory: Ram,
    pub(crate) vm: Vm,
    pub(crate) ports: Arc<Bus>,
    pub(crate) mmio: Arc<Bus>,
    pub(crate) devices: Vec<Attached>,
    pub(crate) slots: Option<Slots>,
    pub(crate) serial_info: DeviceInfo,
    pub(crate) events: Arc<Events>,
    pub(crate) watchdog: Option<(Arc<Watchdog>, DeviceInfo)>,
    pub(crate) processors: Arc<Processors>,
    pub(crate) pluggable: Arc<Hotplug>,
    pub(crate) manager: DeviceManager,
    pub(crate) vcpus: Vec<kvm_ioctls::VcpuFd>,
}

/// A machine with its vCPU threads.
pub struct Machine {
    config: VmConfig,
    memory: Ram,
    devices: Vec<Attached>,
    slots: Option<Slots>,
    serial_info: DeviceInfo,
    events: Arc<Events>,
    watchdog: Option<(Arc<Watchdog>, DeviceInfo)>,
    debugger: Option<Debugger>,
    control: Arc<RunControl>,
    clock: Arc<BootClock>,
    processors: Arc<Processors>,
    pluggable: Arc<Hotplug>,
    manager: DeviceManager,
    context: VcpuContext,
    vcpus: Vec<Vcpu>,
    state: VmState,
    process: Process,
    // Keeps the VM's descriptor open until the vCPUs are gone.
    _vm: Vm,
}

impl Blueprint {
    /// Starts the vCPU threads, which hold until [`Machine::start`].
    pub fn into_machine(
        self,
        exit: Arc<ExitSignal>,
        clock: Arc<BootClock>,
        filters: Filters,
        process: Process,
        debugger_socket: Option<UnixListener>,
    ) -> Result<Machine, BuildError> {
        let control = Arc::<RunControl>::default();
        let resource = |what| move |source| BuildError::Resource { what, source };
        let debugger = match debugger_socket {
            Some(listener) => {
                let watchdog = self.watchdog.as_ref().map(|(watchdog, _)| watchdog.clone());
                let flags = debug::known_flags(&self.vm.fd())?;
                let wait = self.config.gdb.as_ref().is_some_and(|gdb| gdb.wait);
                let link = Link::new(control.clone(), flags, watchdog, wait);
                let link = Arc::new(link.map_err(resource("an event descriptor"))?);
                let (memory, exit) = (self.memory.clone(), exit.clone());
                let debugger = Debugger::start(listener, link, memory, exit, filters);
                Some(debugger.map_err(resource("the debugger's thread"))?)
            }
            None => None,
        };
        let context = VcpuContext {
            ports: self.ports,
            mmio: self.mmio,
            memory: self.memory.clone(),
            control: control.clone(),
            exit,
            clock: clock.clone(),
            filters,
            debugger: debugger
                .as_ref()
                .map(|debugger| (self.vm.fd(), debugger.link.clone())),
            pinning: self.config.cpu.pinning.clone().unwrap_or_default().vcpus.into(),
        };
        let mut vcpus = Vec::with_capacity(self.vcpus.len());
        for (index, fd) in (0..).zip(self.vcpus) {
            let vcpu = Vcpu::spawn(index, fd, context.clone());
            vcpus.push(vcpu.map_err(resource("a vCPU thread"))?);
        }
        Ok(Machine {
            config: self.config,
            memory: self.memory,
            devices: self.devices,
            slots: self.slots,
            serial_info: self.serial_info,
            events: self.events,
            watchdog: self.watchdog,
            debugger,
            control,
            clock,
            processors: self.processors,
            pluggable: self.pluggable,
            manager: self.manager,
            context,
            vcpus,
            state: VmState::Created,
            process,
            _vm: self.vm,
        })
    }
}

impl Machine {
    /// What the machine does.
    #[must_use]
    pub fn state(&self) -> VmState {
        self.state
    }

    /// The process it runs in.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it was made from.
    #[must_use]
    pub fn config(&self) -> &VmConfig {
        &self.config
    }

    fn refuse(&self, request: &'static str) -> LifeError {
        let state = match self.state {
            VmState::Created => "not started",
            VmState::Running => "running",
            VmState::Paused => "paused",
            VmState::Stopping => "stopping",
        };
        LifeError::Phase { request, state }
    }

    /// Runs the guest for the first time.
    pub fn start(&mut self) -> Result<(), LifeError> {
        if self.state != VmState::Created {
            return Err(self.refuse("start"));
        }
        self.control.want(Wanted::Run);
        self.state = VmState::Running;
        Ok(())
    }

    fn kick(&self) {
        for vcpu in &self.vcpus {
            vcpu.kick();
        }
    }

    /// Stops vCPUs, then devices. When it returns, nothing changes guest memory any more.
    pub fn pause(&mut self) -> Result<(), LifeError> {
        if self.state != VmState::Running {
            return Err(self.refuse("pause"));
        }
        self.control.want(Wanted::Hold);
        if !self.control.wait_until_still(ALL, STILL_TIMEOUT, &|| self.kick()) {
            self.control.want(Wanted::Run);
            return Err(LifeError::NotStill(STILL_TIMEOUT));
        }
        for (index, device) in self.devices.iter().enumerate() {
            if let Err(error) = device.pause() {
                for paused in &self.devices[..index] {
                    // The first error is the one to tell; a device that does not resume has reported itself.
                    let _ = paused.resume();
                }
                self.control.want(Wanted::Run);
                return Err(error.into());
            }
        }
        if let Some((watchdog, _)) = &self.watchdog {
            watchdog.pause(Stopper::Pause);
        }
        self.state = VmState::Paused;
        Ok(())
    }

    /// Lets devices, then vCPUs, go on.
    pub fn resume(&mut self) -> Result<(), LifeError> {
        if self.state != VmState::Paused {
            return Err(self.refuse("resume"));
        }
        for device in &self.devices {
            device.resume()?;
        }
        if let Some((watchdog, _)) = &self.watchdog {
            watchdog.resume(Stopper::Pause);
        }
        self.control.want(Wanted::Run);
        self.state = VmState::Running;
        Ok(())
    }

    /// From here on there is only [`Machine::end`].
    pub fn stopping(&mut self) {
        self.state = VmState::Stopping;
    }

    /// Stops everything for good. Returns whether all vCPUs left the guest.
    pub fn end(self) -> bool {
        self.control.want(Wanted::End);
        if let Some(debugger) = &self.debugger {
            debugger.wait(END_TIMEOUT);
        }
        let still = self.control.wait_until_still(ALL, END_TIMEOUT, &|| self.kick());
        if still {
            for vcpu in self.vcpus {
                vcpu.join();
            }
        } else {
            // Their threads still use guest memory: leave everything to the end of the process.
            std::mem::forget(self.vcpus);
            std::mem::forget(self.memory);
        }
        still
    }

    /// All counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let usage = usage::measure(&self.memory, &self.process.smaps);
        let watchdog = self.watchdog.iter();
        let watchdog = watchdog.map(|(watchdog, info)| (info.id.clone(), watchdog.metrics()));
        Metrics {
            boot: self.clock.times(),
            vcpus: self.vcpus.iter().map(Vcpu::metrics).collect(),
            resident_bytes: usage.resident_bytes,
            overhead_bytes: usage.overhead_bytes,
            devices: self
                .devices
                .iter()
                .map(|device| (device.info.id.clone(), device.metrics()))
                .chain(watchdog)
                .collect(),
            debugger: self
                .debugger
                .as_ref()
                .map(|debugger| debugger.link.metrics.snapshot()),
        }
    }
}
