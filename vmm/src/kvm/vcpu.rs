//! A vCPU thread: enters the guest, answers its port and memory accesses, and ends the VM with a full report when the
//! guest or KVM cannot go on.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use devices::bus::Bus;
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN, kvm_debug_exit_arch};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use nix::unistd::gettid;
use vm_memory::{GuestAddress, GuestMemoryBackend};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::debug::DebuggedVcpu;
use super::exits::{Exits, Reason};
use super::failure;
use super::run_control::{RunControl, Wanted};
use super::run_page::RunPage;
use crate::affinity;
use crate::clock::BootClock;
use crate::config::Numbers;
use crate::control::state::VcpuMetrics;
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;
use crate::faults::MEMORY_LOST;
use crate::gdb::link::{Event, Link};
use crate::memory::Ram;
use crate::sandbox::seccomp::{Filters, ThreadKind};

/// vCPU threads keep nothing large on their stack.
const STACK_BYTES: usize = 128 << 10;

/// What a vCPU works with.
#[derive(Clone)]
pub struct VcpuContext {
    /// Port I/O.
    pub ports: Arc<Bus>,
    /// Memory-mapped I/O.
    pub mmio: Arc<Bus>,
    /// Guest memory, for reports.
    pub memory: Ram,
    /// Whether to run.
    pub control: Arc<RunControl>,
    /// How to end the VM.
    pub exit: Arc<ExitSignal>,
    /// When the first instruction ran.
    pub clock: Arc<BootClock>,
    /// System call filters.
    pub filters: Filters,
    /// For each vCPU, the CPUs of the host on which its thread runs; empty for any.
    pub pinning: Arc<[Numbers]>,
    /// The VM, and the way to the thread that serves a debugger, if there is one.
    pub debugger: Option<(Arc<VmFd>, Arc<Link>)>,
}

/// A vCPU and its thread.
pub struct Vcpu {
    page: Arc<RunPage>,
    exits: Arc<Exits>,
    // The descriptor comes back through the handle, so the shared page stays mapped until the thread is joined, which
    // is when this struct ends.
    thread: Option<JoinHandle<VcpuFd>>,
}

/// The signal that takes a vCPU out of `KVM_RUN`. Its handler does nothing: the interruption is what counts.
pub(super) fn kick_signal() -> i32 {
    SIGRTMIN()
}

extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Prepares this process for kicking vCPUs. Call once before the first vCPU.
pub fn install_kick_handler() -> io::Result<()> {
    register_signal_handler(kick_signal(), ignore).map_err(io::Error::from)
}

impl Vcpu {
    /// Starts the thread of a vCPU whose registers are set. It holds until [`RunControl`] says otherwise.
    pub fn spawn(index: u8, mut fd: VcpuFd, context: VcpuContext) -> io::Result<Self> {
        let page = Arc::new(RunPage::new(&mut fd));
        let exits = Arc::<Exits>::default();
        let mut runner = Runner {
            index,
            page: page.clone(),
            exits: exits.clone(),
            context,
        };
        let number = Arc::<AtomicI32>::default();
        if let Some((vm, link)) = &runner.context.debugger {
            let debugged = DebuggedVcpu::new(vm, &fd, number.clone()).map_err(io::Error::other)?;
            link.add(Arc::new(debugged));
        }
        let thread = std::thread::Builder::new()
            .name(format!("vcpu{index}"))
            .stack_size(STACK_BYTES)
            .spawn(move || {
                number.store(gettid().as_raw(), Ordering::SeqCst);
                // Before the filter, which does not let the thread go elsewhere later.
                if let Some(Err(error)) = runner.context.pinning.get(usize::from(index)).map(affinity::pin) {
                    runner.end(ExitReason::Error, format!("cannot pin vCPU {index}: {error}"));
                }
                if let Err(error) = runner.context.filters.install(ThreadKind::Vcpu) {
                    runner.end(
                        ExitReason::Error,
                        format!("cannot install the system call filter of vCPU {index}: {error}"),
                    );
                }
                while runner.context.control.enter(index) {
                    runner.run(&mut fd);
                    // Tells the guest that it was stopped by us, lest its watchdog takes a pause for a hang (KVM API
                    // §4.68). Refused while the guest does not use the clock; then it does not matter.
                    let _ = fd.kvmclock_ctrl();
                    runner.context.control.leave(index);
                }
                fd
            })?;
        Ok(Self {
            page,
            exits,
            thread: Some(thread),
        })
    }

    /// Takes the vCPU out of the guest, so that it asks [`RunControl`] again.
    pub fn kick(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
        if let Some(thread) = &self.thread {
            // SAFETY: the thread has not been joined, so its id is valid.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), kick_signal()) };
        }
    }

    /// Exits so far.
    #[must_use]
    pub fn metrics(&self) -> VcpuMetrics {
        self.exits.metrics()
    }

    /// Waits for the thread. [`RunControl`] must want the end, and the vCPU must have been kicked.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

struct Runner {
    index: u8,
    page: Arc<RunPage>,
    exits: Arc<Exits>,
    context: VcpuContext,
}

/// What a return of `KVM_RUN` means.
enum Exit {
    /// An access has been answered. KVM completes it when it is called again.
    Answered,
    /// Nothing: it was interrupted.
    Interrupted,
    /// A debugger is to know.
    Debug(kvm_debug_exit_arch),
    /// The guest cannot go on.
    Stop(Stop),
}

/// Why the guest cannot go on.
enum Stop {
    /// The guest ended, with a message.
    Guest(ExitReason, &'static str),
    /// KVM reports an error of its own; details are in the shared page.
    Internal,
    /// Anything else that cannot be continued.
    Failed(String),
}

fn memory_gone() -> Stop {
    Stop::Failed(format!("KVM finds memory of the guest gone: {MEMORY_LOST}"))
}

impl Runner {
    fn may_run(&self) -> bool {
        self.context.control.wanted_of(self.index) == Wanted::Run
    }

    /// Runs the guest until something else is wanted or the VM ends. Its registers then are what they should be.
    fn run(&mut self, fd: &mut VcpuFd) {
        if self.index == 0 {
            self.context.clock.first_run();
        }
        let mut settled = true;
        loop {
            match (self.may_run(), settled) {
                (true, _) => {}
                // Lets KVM complete the last access, and come back (KVM API §5, KVM_EXIT_IO).
                (false, false) => self.page.immediate_exit().store(1, Ordering::SeqCst),
                (false, true) => return,
            }
            let exit = fd.run();
            let began = Instant::now();
            let reason = Reason::of(&exit, self.page.exit_reason());
            let exit = self.answer(exit);
            settled = !matches!(exit, Exit::Answered);
            match exit {
                Exit::Answered | Exit::Interrupted => {}
                Exit::Debug(debug) => self.stop_for_debugger(debug),
                Exit::Stop(stop) => self.stop(fd, stop),
            }
            if self.context.exit.is_raised() {
                // Nobody runs on after the end; the control thread takes it from here.
                self.context.control.want(Wanted::End);
            }
            self.exits.handled(reason, began.elapsed());
        }
    }

    /// Does what a return of `KVM_RUN` asks for.
    fn answer(&self, exit: Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Exit {
        let claimed = |claimed: bool| {
            if !claimed {
                self.exits.unclaimed.increment();
            }
        };
        match exit {
            Ok(VcpuExit::IoIn(port, data)) => {
                for item in data.chunks_mut(self.page.io_size()) {
                    claimed(self.context.ports.read(u64::from(port), item));
                }
                Exit::Answered
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                for item in data.chunks(self.page.io_size()) {
                    claimed(self.context.ports.write(u64::from(port), item));
                }
                Exit::Answered
            }
            Ok(VcpuExit::MmioRead(address, data)) => {
                let found = self.context.mmio.read(address, data);
                claimed(found);
                self.check_unclaimed(address, found)
            }
            Ok(VcpuExit::MmioWrite(address, data)) => {
                let found = self.context.mmio.write(address, data);
                claimed(found);
                self.check_unclaimed(address, found)
            }
            Ok(VcpuExit::Intr) => Exit::Interrupted,
            Ok(VcpuExit::Debug(debug)) => Exit::Debug(debug),
            Ok(VcpuExit::Shutdown) => Exit::Stop(Stop::Guest(ExitReason::Panic, "triple fault")),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => Exit::Stop(Stop::Guest(
                ExitReason::Poweroff,
                "the guest powered off (KVM system event)",
            )),
            Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => Exit::Stop(Stop::Guest(
                ExitReason::Reset,
                "the guest asked for a reset (KVM system event)",
            )),
            Ok(VcpuExit::SystemEvent(kind, _)) => {
                Exit::Stop(Stop::Failed(format!("KVM system event {kind}")))
            }
            Ok(VcpuExit::InternalError) => Exit::Stop(Stop::Internal),
            Ok(VcpuExit::FailEntry(reason, cpu)) => Exit::Stop(Stop::Failed(format!(
                "the processor refuses to enter the guest: reason {reason:#x} on host CPU {cpu}"
            ))),
            Ok(VcpuExit::MemoryFault { flags, gpa, size }) => Exit::Stop(Stop::Failed(format!(
                "guest memory at {gpa:#x} ({size:#x} bytes, flags {flags:#x}) cannot be used; was the kernel or initrd file truncated?"
            ))),
            Ok(other) => Exit::Stop(Stop::Failed(format!(
                "KVM gives back control unexpectedly: {other:?}"
            ))),
            Err(error) if error.errno() == libc::EINTR => {
                self.page.immediate_exit().store(0, Ordering::SeqCst);
                Exit::Interrupted
            }
            // An application processor that waits for its start-up message was woken by something else.
            Err(error) if error.errno() == libc::EAGAIN => Exit::Interrupted,
            Err(error) if error.errno() == libc::EFAULT => Exit::Stop(memory_gone()),
            Err(error) => Exit::Stop(Stop::Failed(format!("KVM_RUN fails: {error}"))),
        }
    }

    /// Memory that KVM cannot reach where it emulates an instruction looks to it like a device's.
    fn check_unclaimed(&self, address: u64, claimed: bool) -> Exit {
        if !claimed && self.context.memory.address_in_range(GuestAddress(address)) {
            Exit::Stop(memory_gone())
        } else {
            Exit::Answered
        }
    }

    /// The guest has hit what a debugger has set.
    fn stop_for_debugger(&self, debug: kvm_debug_exit_arch) {
        match &self.context.debugger {
            Some((_, link)) => link.stopped(self.index, Event::Debug(debug)),
            None => self.end(
                ExitReason::Error,
                "KVM stops for a debugger that is not there".to_owned(),
            ),
        }
    }

    fn stop(&self, fd: &mut VcpuFd, stop: Stop) {
        let (reason, message) = match stop {
            Stop::Guest(ExitReason::Panic, message) => (ExitReason::Panic, message.to_owned()),
            Stop::Guest(reason, message) => return self.end(reason, message.to_owned()),
            Stop::Internal => (ExitReason::Error, failure::internal_error(fd.get_kvm_run())),
            Stop::Failed(what) => (ExitReason::Error, what),
        };
        let details = failure::describe(fd, &self.context.memory);
        let message = format!("vCPU {}: {message}\n{details}", self.index);
        match &self.context.debugger {
            // It may look around before the end.
            Some((_, link)) if link.is_attached() => {
                link.stopped(self.index, Event::Fatal(ExitReport::new(reason, message)));
            }
            _ => self.end(reason, message),
        }
    }

    fn end(&self, reason: ExitReason, message: String) {
        self.context.exit.raise(ExitReport::new(reason, message));
        self.context.control.want(Wanted::End);
    }
}

#[cfg(test)]
#[path = "vcpu_tests.rs"]
mod tests;
