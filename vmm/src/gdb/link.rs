//! What vCPU threads and the control thread share with the debugger's thread: who is there, and who has stopped why.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use devices::metrics::Counter;
use kvm_bindings::kvm_debug_exit_arch;
use serde::Serialize;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::control::state::DebuggerState;
use crate::exit::ExitReport;
use crate::kvm::debug::Debuggee;
use crate::kvm::run_control::{ALL, RunControl, only};
use crate::lock::lock;
use crate::watchdog::{Stopper, Watchdog};

/// Why a vCPU stands still.
#[derive(Debug)]
pub enum Event {
    /// Breakpoint, watchpoint or single step, or an exception of the guest's own that looks like one.
    Debug(kvm_debug_exit_arch),
    /// The guest cannot go on; this is how the VM ends.
    Fatal(ExitReport),
}

/// Counters.
#[derive(Debug, Default, Serialize)]
pub struct DebuggerMetrics {
    /// Clients that sent a packet.
    pub clients: Counter,
    /// Clients that came while another one was there.
    pub refused: Counter,
    /// Clients that broke the protocol's rules.
    pub faulty: Counter,
    /// How often the guest was stopped.
    pub stops: Counter,
    /// Debug exceptions of the guest's own that were handed back to it.
    pub handed_back: Counter,
}

/// Shared by all threads.
pub struct Link {
    /// Who runs.
    pub control: Arc<RunControl>,
    /// Flags of `KVM_SET_GUEST_DEBUG` that the host knows.
    pub known_flags: u32,
    /// Counters.
    pub metrics: DebuggerMetrics,
    vcpus: Mutex<Vec<Arc<dyn Debuggee>>>,
    /// One at most for each vCPU.
    events: Mutex<Vec<(u8, Event)>>,
    wake: EventFd,
    state: AtomicU8,
    watchdog: Option<Arc<Watchdog>>,
}

impl Link {
    /// A link without vCPUs. With `wait`, none runs until a debugger has come.
    pub fn new(
        control: Arc<RunControl>,
        known_flags: u32,
        watchdog: Option<Arc<Watchdog>>,
        wait: bool,
    ) -> io::Result<Self> {
        let link = Self {
            control,
            known_flags,
            metrics: DebuggerMetrics::default(),
            vcpus: Mutex::default(),
            events: Mutex::default(),
            wake: EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?,
            state: AtomicU8::new(DebuggerState::Listening as u8),
            watchdog,
        };
        if wait {
            link.control.hold(ALL);
            link.set_state(DebuggerState::Waiting);
        }
        Ok(link)
    }

    /// A vCPU has come. With a debugger there it stands still until the debugger's thread knows it.
    pub fn add(&self, vcpu: Arc<dyn Debuggee>) {
        let mut vcpus = lock(&self.vcpus);
        if self.is_attached() {
            // At most 32.
            self.control.hold(only(vcpus.len() as u8));
        }
        vcpus.push(vcpu);
        self.wake();
    }

    /// All vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> Vec<Arc<dyn Debuggee>> {
        lock(&self.vcpus).clone()
    }

    /// vCPU thread: it stands still from now on.
    pub fn stopped(&self, index: u8, event: Event) {
        self.control.hold(only(index));
        lock(&self.events).push((index, event));
        self.wake();
    }

    /// Who has stopped since the last call.
    #[must_use]
    pub fn take_events(&self) -> Vec<(u8, Event)> {
        std::mem::take(&mut lock(&self.events))
    }

    fn wake(&self) {
        // Fails only when it is signalled already.
        let _ = self.wake.write(1);
    }

    /// Readable when there may be new vCPUs or events.
    #[must_use]
    pub fn wake_event(&self) -> &EventFd {
        &self.wake
    }

    /// What the debugger does.
    #[must_use]
    pub fn state(&self) -> DebuggerState {
        match self.state.load(Ordering::SeqCst) {
            0 => DebuggerState::Listening,
            1 => DebuggerState::Waiting,
            2 => DebuggerState::Running,
            _ => DebuggerState::Stopped,
        }
    }

    /// Changes it. The watchdog stands still together with the vCPUs.
    pub fn set_state(&self, state: DebuggerState) {
        let _vcpus = lock(&self.vcpus);
        self.state.store(state as u8, Ordering::SeqCst);
        if let Some(watchdog) = &self.watchdog {
            match state {
                DebuggerState::Waiting | DebuggerState::Stopped => watchdog.pause(Stopper::Debugger),
                DebuggerState::Listening | DebuggerState::Running => watchdog.resume(Stopper::Debugger),
            }
        }
    }

    /// Whether there is a debugger.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        matches!(self.state(), DebuggerState::Running | DebuggerState::Stopped)
    }
}
