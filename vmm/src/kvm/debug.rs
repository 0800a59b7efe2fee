//! A vCPU as a debugger reaches it: by a descriptor of its own, so that the vCPU's thread has nothing to do for it and needs
//! no more system calls. What is asked here waits until `KVM_RUN` has returned, so a vCPU is stopped first.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use kvm_bindings::{
    KVM_MP_STATE_HALTED, KVM_MP_STATE_RUNNABLE, kvm_fpu, kvm_guest_debug, kvm_regs, kvm_sregs,
};
use kvm_ioctls::{Cap, VcpuFd, VmFd};
use nix::unistd::getpid;

use super::run_page::RunPage;
use super::vcpu::kick_signal;
use super::vm::{KvmError, call};

/// `KVM_CAP_SET_GUEST_DEBUG2`: which flags `KVM_SET_GUEST_DEBUG` takes. Kernels before 5.13 do not say.
const CAP_FLAGS: libc::c_ulong = 195;

/// What a vCPU does when nobody stops it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It runs.
    Runs,
    /// It waits for an interrupt.
    Halted,
    /// It waits for another one to start it.
    Waits,
}

/// A vCPU under a debugger.
pub trait Debuggee: Send + Sync {
    /// Takes it out of the guest.
    fn kick(&self);
    /// General registers.
    fn general(&self) -> io::Result<kvm_regs>;
    /// Changes them.
    fn set_general(&self, registers: &kvm_regs) -> io::Result<()>;
    /// Segments and control registers.
    fn system(&self) -> io::Result<kvm_sregs>;
    /// Changes them.
    fn set_system(&self, registers: &kvm_sregs) -> io::Result<()>;
    /// x87 and SSE registers.
    fn float(&self) -> io::Result<kvm_fpu>;
    /// Changes them.
    fn set_float(&self, registers: &kvm_fpu) -> io::Result<()>;
    /// The guest-physical address of a linear one, by the page tables that are in force, if there is one.
    fn translate(&self, address: u64) -> Option<u64>;
    /// What it does.
    fn activity(&self) -> io::Result<Activity>;
    /// Sets what it stops for, and raises exceptions (KVM API §4.87).
    fn set_debug(&self, debug: &kvm_guest_debug) -> io::Result<()>;
    /// Sets bits in DR6 as the guest sees it.
    fn add_debug_status(&self, bits: u64) -> io::Result<()>;
}

/// The flags of `KVM_SET_GUEST_DEBUG` that this host knows.
pub fn known_flags(vm: &VmFd) -> Result<u32, KvmError> {
    if !vm.check_extension(Cap::SetGuestDebug) {
        return Err(KvmError::Missing("guest debugging"));
    }
    Ok(u32::try_from(vm.check_extension_raw(CAP_FLAGS)).unwrap_or(0))
}

/// A vCPU of KVM.
pub struct DebuggedVcpu {
    page: RunPage,
    fd: VcpuFd,
    /// Its thread, 0 before that runs.
    thread: Arc<AtomicI32>,
}

impl DebuggedVcpu {
    /// A further descriptor of a vCPU, whose thread says which one it is before it does anything.
    pub fn new(vm: &VmFd, vcpu: &VcpuFd, thread: Arc<AtomicI32>) -> Result<Self, KvmError> {
        // SAFETY: the descriptor is open for as long as the vCPU is borrowed.
        let again = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        let again = again.as_fd().try_clone_to_owned().map_err(|error| {
            let number = error.raw_os_error().unwrap_or(libc::EMFILE);
            call("give a debugger its descriptor")(kvm_ioctls::Error::new(number))
        })?;
        // SAFETY: it is a vCPU's descriptor that nobody else has.
        let fd = unsafe { vm.create_vcpu_from_rawfd(again.into_raw_fd()) };
        let mut fd = fd.map_err(call("map a vCPU for a debugger"))?;
        Ok(Self {
            page: RunPage::new(&mut fd),
            fd,
            thread,
        })
    }
}

fn kvm<T>(result: Result<T, kvm_ioctls::Error>) -> io::Result<T> {
    result.map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

impl Debuggee for DebuggedVcpu {
    fn kick(&self) {
        self.page.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: a call without pointers. If the thread has ended, no other process can have its number.
            unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw(), thread, kick_signal()) };
        }
    }

    fn general(&self) -> io::Result<kvm_regs> {
        kvm(self.fd.get_regs())
    }

    fn set_general(&self, registers: &kvm_regs) -> io::Result<()> {
        kvm(self.fd.set_regs(registers))
    }

    fn system(&self) -> io::Result<kvm_sregs> {
        kvm(self.fd.get_sregs())
    }

    fn set_system(&self, registers: &kvm_sregs) -> io::Result<()> {
        kvm(self.fd.set_sregs(registers))
    }

    fn float(&self) -> io::Result<kvm_fpu> {
        kvm(self.fd.get_fpu())
    }

    fn set_float(&self, registers: &kvm_fpu) -> io::Result<()> {
        kvm(self.fd.set_fpu(registers))
    }

    fn translate(&self, address: u64) -> Option<u64> {
        let translation = self.fd.translate_gva(address).ok()?;
        (translation.valid != 0).then_some(translation.physical_address)
    }

    fn activity(&self) -> io::Result<Activity> {
        Ok(match kvm(self.fd.get_mp_state())?.mp_state {
            KVM_MP_STATE_RUNNABLE => Activity::Runs,
            KVM_MP_STATE_HALTED => Activity::Halted,
            _ => Activity::Waits,
        })
    }

    fn set_debug(&self, debug: &kvm_guest_debug) -> io::Result<()> {
        kvm(self.fd.set_guest_debug(debug))
    }

    fn add_debug_status(&self, bits: u64) -> io::Result<()> {
        let mut registers = kvm(self.fd.get_debug_regs())?;
        registers.dr6 |= bits;
        kvm(self.fd.set_debug_regs(&registers))
    }
}
