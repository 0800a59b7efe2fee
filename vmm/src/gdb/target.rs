//! What the protocol asks for, done to the guest: `gdbstub`'s traits for a machine whose vCPUs are threads 1 and up.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{self, TargetError, TargetResult};

use super::breakpoints::Kind;
use super::debuggees::Debuggees;
use super::memory;
use super::registers::{self, RegisterId, Registers, Set, X86_64};
use crate::kvm::debug::{Activity, Debuggee};
use crate::kvm::run_control::{ALL, VcpuSet, only};

/// The thread that a vCPU is to a debugger.
#[must_use]
pub fn thread_of(index: u8) -> Tid {
    NonZeroUsize::MIN.saturating_add(index.into())
}

/// The vCPU that a thread stands for, if there can be one.
fn index_of(thread: Tid) -> Option<u8> {
    u8::try_from(thread.get() - 1).ok()
}

/// What the next resumption does.
#[derive(Debug, Default)]
struct Actions {
    step: VcpuSet,
    go_on: VcpuSet,
    others_wait: bool,
}

/// The machine as the protocol sees it.
pub struct Target {
    /// The vCPUs and what is set on them.
    pub debuggees: Debuggees,
    actions: Actions,
}

impl Target {
    /// A machine that nothing is set on.
    #[must_use]
    pub fn new(debuggees: Debuggees) -> Self {
        Self {
            debuggees,
            actions: Actions::default(),
        }
    }

    fn vcpu(&self, thread: Tid) -> TargetResult<Arc<dyn Debuggee>, Self> {
        let vcpu = index_of(thread).and_then(|index| self.debuggees.vcpu(index));
        vcpu.ok_or(TargetError::Errno(libc::ESRCH as u8))
    }

    fn set_of(thread: Tid) -> VcpuSet {
        index_of(thread).map_or(0, only)
    }
}

impl target::Target for Target {
    type Arch = X86_64;
    type Error = io::Error;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Target {
    fn read_registers(&mut self, values: &mut Registers, thread: Tid) -> TargetResult<(), Self> {
        *values = Registers::read(&*self.vcpu(thread)?)?;
        Ok(())
    }

    fn write_registers(&mut self, values: &Registers, thread: Tid) -> TargetResult<(), Self> {
        let vcpu = self.vcpu(thread)?;
        let mut registers = Registers::read(&*vcpu)?;
        registers.take_from(values);
        for set in [Set::System, Set::Float, Set::General] {
            registers.write(&*vcpu, set)?;
        }
        Ok(())
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, Tid, Self>> {
        Some(self)
    }

    fn read_addrs(&mut self, address: u64, data: &mut [u8], thread: Tid) -> TargetResult<usize, Self> {
        let vcpu = self.vcpu(thread)?;
        let debuggees = &self.debuggees;
        match memory::read(&*vcpu, &debuggees.memory, &debuggees.planted, address, data) {
            0 if !data.is_empty() => Err(TargetError::Errno(libc::EFAULT as u8)),
            len => Ok(len),
        }
    }

    fn write_addrs(&mut self, address: u64, data: &[u8], thread: Tid) -> TargetResult<(), Self> {
        let vcpu = self.vcpu(thread)?;
        let debuggees = &mut self.debuggees;
        let planted = &mut debuggees.planted;
        match memory::write(&*vcpu, &debuggees.memory, planted, address, data) {
            true => Ok(()),
            false => Err(TargetError::Errno(libc::EFAULT as u8)),
        }
    }

    fn list_active_threads(&mut self, register: &mut dyn FnMut(Tid)) -> io::Result<()> {
        (0..self.debuggees.count()).for_each(|index| register(thread_of(index)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl SingleRegisterAccess<Tid> for Target {
    fn read_register(&mut self, thread: Tid, id: RegisterId, buf: &mut [u8]) -> TargetResult<usize, Self> {
        let value = Registers::read(&*self.vcpu(thread)?)?.get(id.0).to_le_bytes();
        let len = registers::bytes(id.0).min(buf.len());
        buf[..len].copy_from_slice(&value[..len]);
        Ok(len)
    }

    fn write_register(&mut self, thread: Tid, id: RegisterId, value: &[u8]) -> TargetResult<(), Self> {
        let vcpu = self.vcpu(thread)?;
        let mut registers = Registers::read(&*vcpu)?;
        let set = registers.set(id.0, registers::number(value));
        Ok(registers.write(&*vcpu, set.ok_or(TargetError::NonFatal)?)?)
    }
}

impl ThreadExtraInfo for Target {
    fn thread_extra_info(&self, thread: Tid, buf: &mut [u8]) -> io::Result<usize> {
        let activity = self.vcpu(thread).ok().and_then(|vcpu| vcpu.activity().ok());
        let text: &[u8] = match activity {
            Some(Activity::Runs) => b"vCPU, running",
            Some(Activity::Halted) => b"vCPU, halted",
            _ => b"vCPU, not started",
        };
        let len = text.len().min(buf.len());
        buf[..len].copy_from_slice(&text[..len]);
        Ok(len)
    }
}

impl MultiThreadResume for Target {
    fn resume(&mut self) -> io::Result<()> {
        let actions = std::mem::take(&mut self.actions);
        let run = match actions.others_wait {
            true => actions.step | actions.go_on,
            false => ALL,
        };
        self.debuggees.resume(run, actions.step)
    }

    fn clear_resume_actions(&mut self) -> io::Result<()> {
        self.actions = Actions::default();
        Ok(())
    }

    // A machine has no signals to be given.
    fn set_resume_action_continue(&mut self, thread: Tid, _: Option<Signal>) -> io::Result<()> {
        self.actions.go_on |= Self::set_of(thread);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Target {
    fn set_resume_action_step(&mut self, thread: Tid, _: Option<Signal>) -> io::Result<()> {
        self.actions.step |= Self::set_of(thread);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Target {
    fn set_resume_action_scheduler_lock(&mut self) -> io::Result<()> {
        self.actions.others_wait = true;
        Ok(())
    }
}

impl Breakpoints for Target {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Target {
    fn add_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.debuggees.plant(address))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        let debuggees = &mut self.debuggees;
        Ok(debuggees.planted.remove(&debuggees.memory, address))
    }
}

impl HwBreakpoint for Target {
    fn add_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.debuggees.compared.add(address, 1, Kind::Execute))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _: usize) -> TargetResult<bool, Self> {
        Ok(self.debuggees.compared.remove(address, 1, Kind::Execute))
    }
}

impl HwWatchpoint for Target {
    fn add_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.debuggees.compared.add(address, len, Kind::Watch(kind)))
    }

    fn remove_hw_watchpoint(&mut self, address: u64, len: u64, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.debuggees.compared.remove(address, len, Kind::Watch(kind)))
    }
}
