//! Returns of `KVM_RUN`, counted and timed by the reasons that KVM gives for them (KVM API §5).

use std::sync::OnceLock;
use std::time::Duration;

use devices::metrics::{Counter, Histogram};
use kvm_bindings::{KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO};
use kvm_ioctls::VcpuExit;

use crate::control::state::VcpuMetrics;

/// First the numbers of `KVM_EXIT_*`, with reads where a number stands for reads and writes; then what has none.
const NAMES: [&str; 45] = [
    "unknown",
    "exception",
    "io_in",
    "hypercall",
    "debug",
    "hlt",
    "mmio_read",
    "irq_window_open",
    "shutdown",
    "fail_entry",
    "intr",
    "set_tpr",
    "tpr_access",
    "s390_sieic",
    "s390_reset",
    "dcr",
    "nmi",
    "internal_error",
    "osi",
    "papr_hcall",
    "s390_ucontrol",
    "watchdog",
    "s390_tsch",
    "epr",
    "system_event",
    "s390_stsi",
    "ioapic_eoi",
    "hyperv",
    "arm_nisv",
    "x86_rdmsr",
    "x86_wrmsr",
    "dirty_ring_full",
    "ap_reset_hold",
    "x86_bus_lock",
    "xen",
    "riscv_sbi",
    "riscv_csr",
    "notify",
    "loongarch_iocsr",
    "memory_fault",
    "io_out",
    "mmio_write",
    "eagain",
    "error",
    "other",
];
const NUMBERED: usize = 40;
const IO_OUT: Reason = Reason(40);
const MMIO_WRITE: Reason = Reason(41);
/// `KVM_RUN` failed with `EAGAIN`: a processor that waits for its start-up message was woken by something else.
const EAGAIN: Reason = Reason(42);
/// It failed in another way.
const ERROR: Reason = Reason(43);
/// A newer KVM's.
const OTHER: Reason = Reason(44);

/// Why `KVM_RUN` returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reason(usize);

impl Reason {
    /// The reason of a return, by what it is and by `exit_reason` in the shared page, which errors leave as it was.
    pub(super) fn of(exit: &Result<VcpuExit<'_>, kvm_ioctls::Error>, exit_reason: u32) -> Self {
        let numbered = |number: u32| match number as usize {
            number if number < NUMBERED => Self(number),
            _ => OTHER,
        };
        match exit {
            Ok(VcpuExit::IoIn(..)) => numbered(KVM_EXIT_IO),
            Ok(VcpuExit::IoOut(..)) => IO_OUT,
            Ok(VcpuExit::MmioRead(..)) => numbered(KVM_EXIT_MMIO),
            Ok(VcpuExit::MmioWrite(..)) => MMIO_WRITE,
            Ok(_) => numbered(exit_reason),
            Err(error) => match error.errno() {
                libc::EINTR => numbered(KVM_EXIT_INTR),
                // Kernels before 6.8 say no more than that.
                libc::EFAULT => numbered(KVM_EXIT_MEMORY_FAULT),
                libc::EAGAIN => EAGAIN,
                _ => ERROR,
            },
        }
    }
}

/// The exits of one vCPU. Most reasons never occur, and those take no memory.
pub(super) struct Exits {
    handled: [OnceLock<Box<Histogram>>; NAMES.len()],
    pub(super) unclaimed: Counter,
}

impl Default for Exits {
    fn default() -> Self {
        Self {
            handled: [const { OnceLock::new() }; NAMES.len()],
            unclaimed: Counter::default(),
        }
    }
}

impl Exits {
    /// Counts an exit that has been dealt with.
    pub(super) fn handled(&self, reason: Reason, took: Duration) {
        if let Some(histogram) = self.handled.get(reason.0) {
            histogram.get_or_init(Box::default).observe(took);
        }
    }

    /// All so far.
    pub(super) fn metrics(&self) -> VcpuMetrics {
        let named = NAMES.iter().zip(&self.handled);
        let exits =
            named.filter_map(|(name, handled)| Some(((*name).to_owned(), handled.get()?.as_ref().into())));
        VcpuMetrics {
            exits: exits.collect(),
            unclaimed: self.unclaimed.get(),
        }
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
