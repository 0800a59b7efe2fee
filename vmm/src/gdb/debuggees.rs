//! All vCPUs under a debugger: what is set on them, who stops why, and how they stop and go on together.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gdbstub::common::Signal;
use gdbstub::stub::MultiThreadStopReason;
use kvm_bindings::{
    KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_INJECT_BP, KVM_GUESTDBG_INJECT_DB,
    KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, kvm_debug_exit_arch,
    kvm_guest_debug,
};

use super::breakpoints::{Compared, Kind, Planted};
use super::link::{Event, Link};
use super::memory;
use super::target::thread_of;
use crate::control::state::DebuggerState;
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;
use crate::kvm::debug::{Activity, Debuggee};
use crate::kvm::run_control::{ALL, VcpuSet, Wanted, only};
use crate::memory::Ram;

/// Why the guest stands still, as the protocol says it.
pub type Stop = MultiThreadStopReason<u64>;

/// The exception of `int3`; others that lead here are debug exceptions.
const BREAKPOINT_EXCEPTION: u32 = 3;
/// Bits of DR6 that say what happened: places that matched, and single step.
const STATUS: u64 = 0x400f;
/// How long to wait between looks at whether the VM ends.
const SLICE: Duration = Duration::from_millis(200);

/// A vCPU.
struct Vcpu {
    vcpu: Arc<dyn Debuggee>,
    /// What is set in KVM, if that is known.
    set: Option<kvm_guest_debug>,
    /// An exception of the guest's own that it gets when it goes on: its flag, and what DR6 says.
    own: Option<(u32, u64)>,
}

/// What an event turns out to be.
enum Verdict {
    /// The debugger is to know.
    Stop(Stop),
    /// The guest's own affair.
    Own,
}

/// All vCPUs, and what a debugger has set on them.
pub struct Debuggees {
    /// Guest memory.
    pub memory: Ram,
    /// Breakpoints in memory.
    pub planted: Planted,
    /// Breakpoints and watchpoints of the processor.
    pub compared: Compared,
    link: Arc<Link>,
    exit: Arc<ExitSignal>,
    vcpus: Vec<Vcpu>,
    stepping: VcpuSet,
    /// Whose page tables breakpoints go by first.
    current: u8,
    /// What could not be told yet, because another vCPU stopped first.
    pending: Vec<Stop>,
    /// How the VM ends when it goes on.
    fatal: Option<ExitReport>,
}

impl Debuggees {
    /// vCPUs that nothing is set on.
    #[must_use]
    pub fn new(memory: Ram, link: Arc<Link>, exit: Arc<ExitSignal>) -> Self {
        Self {
            memory,
            planted: Planted::default(),
            compared: Compared::default(),
            link,
            exit,
            vcpus: Vec::new(),
            stepping: 0,
            current: 0,
            pending: Vec::new(),
            fatal: None,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        // At most 32.
        self.vcpus.len() as u8
    }

    /// One of them.
    #[must_use]
    pub fn vcpu(&self, index: u8) -> Option<Arc<dyn Debuggee>> {
        self.vcpus.get(usize::from(index)).map(|vcpu| vcpu.vcpu.clone())
    }

    /// Learns of vCPUs that have come. Returns them.
    fn learn(&mut self) -> VcpuSet {
        let known = self.vcpus.len();
        for vcpu in self.link.vcpus().into_iter().skip(known) {
            self.vcpus.push(Vcpu {
                vcpu,
                set: None,
                own: None,
            });
        }
        (known..self.vcpus.len()).fold(0, |set, index| set | only(index as u8))
    }

    fn wait_until_still(&self, vcpus: VcpuSet) {
        let kick = || self.vcpus.iter().for_each(|vcpu| vcpu.vcpu.kick());
        while !self.link.control.wait_until_still(vcpus, SLICE, &kick) && !self.exit.is_raised() {}
    }

    /// Stops all, and learns why those stopped that did so by themselves.
    pub fn halt(&mut self) {
        self.link.control.hold(ALL);
        self.learn();
        self.wait_until_still(ALL);
        if self.link.state() != DebuggerState::Stopped {
            self.link.metrics.stops.increment();
            self.link.set_state(DebuggerState::Stopped);
        }
        for (index, event) in self.link.take_events() {
            match self.judge(index, event) {
                Some(Verdict::Own) | None => {}
                Some(Verdict::Stop(stop)) => self.pending.push(stop),
            }
        }
    }

    /// What has happened since the guest went on: whether it stands still, and why.
    pub fn look(&mut self) -> Option<Stop> {
        let new = self.learn();
        if new != 0 {
            // They begin with what the others have.
            if let Err(error) = self.set_all(0) {
                tracing::warn!(%error, "cannot debug a vCPU that has come");
            }
            self.link.control.release(new);
        }
        for (index, event) in self.link.take_events() {
            self.wait_until_still(only(index));
            match self.judge(index, event) {
                Some(Verdict::Stop(stop)) => self.pending.push(stop),
                Some(Verdict::Own) => {
                    if let Err(error) = self.set_one(usize::from(index), 0) {
                        tracing::warn!(%error, index, "cannot hand the guest its own debug exception back");
                    }
                    self.link.control.release(only(index));
                }
                None => {}
            }
        }
        if self.pending.is_empty() {
            return None;
        }
        self.halt();
        Some(self.first())
    }

    /// The first of what is pending. Of the others only what does not happen again stays.
    fn first(&mut self) -> Stop {
        let first = match self.pending.is_empty() {
            true => Stop::SignalWithThread {
                tid: thread_of(self.current),
                signal: Signal::SIGINT,
            },
            false => self.pending.remove(0),
        };
        let stays = |stop: &Stop| match stop {
            Stop::Watch { .. } => true,
            Stop::SignalWithThread { signal, .. } => *signal != Signal::SIGTRAP,
            _ => false,
        };
        self.pending.retain(stays);
        if let Stop::SwBreak(tid)
        | Stop::HwBreak(tid)
        | Stop::SignalWithThread { tid, .. }
        | Stop::Watch { tid, .. } = first
        {
            self.current = (tid.get() - 1) as u8;
        }
        self.stepping = 0;
        first
    }

    /// Stops all because the debugger wants it. Returns why they stand still.
    pub fn interrupt(&mut self) -> Stop {
        self.halt();
        self.first()
    }

    fn judge(&mut self, index: u8, event: Event) -> Option<Verdict> {
        let tid = thread_of(index);
        match event {
            Event::Debug(debug) => Some(self.judge_debug(index, &debug)),
            Event::Fatal(report) => {
                // Where KVM emulates the guest's kernel it may not know `int3`.
                let general = self.vcpu(index)?.general().ok()?;
                if report.reason == ExitReason::Error && self.planted.has(general.rip) {
                    return Some(Verdict::Stop(Stop::SwBreak(tid)));
                }
                let signal = match report.reason {
                    ExitReason::Panic => Signal::SIGSEGV,
                    _ => Signal::SIGILL,
                };
                self.fatal.get_or_insert(report);
                Some(Verdict::Stop(Stop::SignalWithThread { tid, signal }))
            }
        }
    }

    fn judge_debug(&mut self, index: u8, debug: &kvm_debug_exit_arch) -> Verdict {
        let tid = thread_of(index);
        if debug.exception == BREAKPOINT_EXCEPTION {
            if self.planted.has(debug.pc) {
                return Verdict::Stop(Stop::SwBreak(tid));
            }
            return self.own(index, KVM_GUESTDBG_INJECT_BP, 0);
        }
        match self.compared.hit(debug.dr6) {
            Some((Kind::Execute, _)) => Verdict::Stop(Stop::HwBreak(tid)),
            Some((Kind::Watch(kind), addr)) => Verdict::Stop(Stop::Watch { tid, kind, addr }),
            None if self.stepping & only(index) != 0 => Verdict::Stop(Stop::SignalWithThread {
                tid,
                signal: Signal::SIGTRAP,
            }),
            None => self.own(index, KVM_GUESTDBG_INJECT_DB, debug.dr6 & STATUS),
        }
    }

    fn own(&mut self, index: u8, flag: u32, status: u64) -> Verdict {
        self.link.metrics.handed_back.increment();
        if let Some(vcpu) = self.vcpus.get_mut(usize::from(index)) {
            vcpu.own = Some((flag, status));
        }
        Verdict::Own
    }

    /// Sets on a vCPU what it stops for.
    fn set_one(&mut self, index: usize, extra: u32) -> io::Result<()> {
        let Some(vcpu) = self.vcpus.get_mut(index) else {
            return Ok(());
        };
        let mut debug = kvm_guest_debug::default();
        if !self.planted.is_empty() {
            debug.control |= KVM_GUESTDBG_USE_SW_BP;
        }
        if !self.compared.is_empty() {
            debug.control |= KVM_GUESTDBG_USE_HW_BP;
            debug.arch.debugreg = self.compared.registers();
        }
        debug.control |= extra;
        if extra & KVM_GUESTDBG_SINGLESTEP != 0
            && self.link.known_flags & KVM_GUESTDBG_BLOCKIRQ != 0
            && vcpu.vcpu.activity()? != Activity::Halted
        {
            // Lest each step ends in an interrupt that has come meanwhile.
            debug.control |= KVM_GUESTDBG_BLOCKIRQ;
        }
        if debug.control != 0 {
            debug.control |= KVM_GUESTDBG_ENABLE;
        }
        let own = vcpu.own.take();
        if own.is_none() && extra == 0 && vcpu.set == Some(debug) {
            return Ok(());
        }
        if let Some((_, status)) = own.filter(|(_, status)| *status != 0) {
            vcpu.vcpu.add_debug_status(status)?;
        }
        let mut once = debug;
        once.control |= own.map_or(0, |(flag, _)| flag);
        vcpu.vcpu.set_debug(&once)?;
        vcpu.set = (extra == 0).then_some(debug);
        Ok(())
    }

    fn set_all(&mut self, step: VcpuSet) -> io::Result<()> {
        for index in 0..self.vcpus.len() {
            let extra = match step & only(index as u8) {
                0 => 0,
                _ => KVM_GUESTDBG_SINGLESTEP,
            };
            self.set_one(index, extra)?;
        }
        Ok(())
    }

    /// Lets the vCPUs in `run` go on, those in `step` for one instruction.
    pub fn resume(&mut self, run: VcpuSet, step: VcpuSet) -> io::Result<()> {
        self.end_if_fatal();
        // What has not been told yet comes first.
        if self.pending.is_empty() {
            self.learn();
            self.stepping = step;
            self.set_all(step)?;
            self.link.set_state(DebuggerState::Running);
            self.link.control.release(run);
        }
        Ok(())
    }

    fn end_if_fatal(&mut self) {
        if let Some(report) = self.fatal.take() {
            self.pending.clear();
            self.exit.raise(report);
            self.link.control.want(Wanted::End);
        }
    }

    /// Takes everything back that was set, and lets all go on.
    pub fn leave(&mut self) {
        self.halt();
        self.planted.clear(&self.memory);
        self.compared.clear();
        self.pending.clear();
        self.stepping = 0;
        self.end_if_fatal();
        if let Err(error) = self.set_all(0) {
            tracing::warn!(%error, "cannot take a debugger's settings back");
        }
        self.link.set_state(DebuggerState::Listening);
        self.link.control.release(ALL);
    }

    /// Puts a breakpoint into memory. Returns whether it could.
    pub fn plant(&mut self, address: u64) -> bool {
        let first = usize::from(self.current);
        let vcpus = self.vcpus.iter().skip(first).chain(self.vcpus.iter().take(first));
        let mut found = vcpus.filter_map(|vcpu| memory::locate(&*vcpu.vcpu, &self.memory, address));
        match found.next() {
            Some(physical) => self.planted.add(&self.memory, address, physical),
            None => false,
        }
    }
}
