//! Who decides whether vCPUs run: start, pause, resume and end for all of them at once, and a debugger for each of them.
//! One runs if both let it.
//!
//! The control thread, or the debugger's, changes what is wanted and kicks the vCPUs out of `KVM_RUN`; each vCPU thread asks
//! between exits. A kick cannot get lost: the kicker first says what it wants, then sets `immediate_exit` in the vCPU's shared
//! page, then sends a signal; the vCPU clears `immediate_exit` before it asks (KVM API §5, `immediate_exit`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::MAX_VCPUS;
use crate::lock::lock;

/// What vCPUs are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Wanted {
    /// Stand still.
    Hold = 0,
    /// Run the guest.
    Run = 1,
    /// Return from the thread.
    End = 2,
}

/// Some vCPUs, a bit for each.
pub type VcpuSet = u32;

const _: () = assert!(MAX_VCPUS as u32 <= VcpuSet::BITS);

/// All vCPUs, those that are yet to come included.
pub const ALL: VcpuSet = VcpuSet::MAX;

/// One vCPU; none if there cannot be one of this index.
#[must_use]
pub fn only(index: u8) -> VcpuSet {
    1u32.checked_shl(index.into()).unwrap_or(0)
}

/// Shared between the control thread, the debugger's and all vCPU threads.
pub struct RunControl {
    /// What is wanted of all vCPUs in the upper half, those that a debugger holds in the lower one: vCPU threads ask for both
    /// at once. Written under the lock.
    state: AtomicU64,
    running: Mutex<VcpuSet>,
    changed: Condvar,
}

impl Default for RunControl {
    fn default() -> Self {
        Self {
            state: AtomicU64::new(state(Wanted::Hold, 0)),
            running: Mutex::new(0),
            changed: Condvar::new(),
        }
    }
}

const fn state(wanted: Wanted, held: VcpuSet) -> u64 {
    (wanted as u64) << 32 | held as u64
}

impl RunControl {
    fn state(&self) -> (Wanted, VcpuSet) {
        let state = self.state.load(Ordering::SeqCst);
        let wanted = match state >> 32 {
            0 => Wanted::Hold,
            1 => Wanted::Run,
            _ => Wanted::End,
        };
        (wanted, state as VcpuSet)
    }

    /// What is wanted of all vCPUs now.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        self.state().0
    }

    /// What this vCPU is to do now.
    #[must_use]
    pub fn wanted_of(&self, index: u8) -> Wanted {
        match self.state() {
            (Wanted::Run, held) if held & only(index) != 0 => Wanted::Hold,
            (wanted, _) => wanted,
        }
    }

    fn change(&self, next: impl FnOnce(Wanted, VcpuSet) -> u64) {
        // The lock orders this against a vCPU that is about to sleep on the condition.
        let _running = lock(&self.running);
        let (wanted, held) = self.state();
        self.state.store(next(wanted, held), Ordering::SeqCst);
        self.changed.notify_all();
    }

    /// Changes what vCPUs are to do. The end is final.
    pub fn want(&self, next: Wanted) {
        self.change(|wanted, held| match wanted {
            Wanted::End => state(Wanted::End, held),
            _ => state(next, held),
        });
    }

    /// Debugger: lets these vCPUs stand still.
    pub fn hold(&self, vcpus: VcpuSet) {
        self.change(|wanted, held| state(wanted, held | vcpus));
    }

    /// Debugger: lets them go on, as far as it is concerned.
    pub fn release(&self, vcpus: VcpuSet) {
        self.change(|wanted, held| state(wanted, held & !vcpus));
    }

    /// vCPU thread: waits until it may run. `false` means that the thread is to return.
    pub fn enter(&self, index: u8) -> bool {
        let mut running = lock(&self.running);
        loop {
            match self.wanted_of(index) {
                Wanted::Run => break,
                Wanted::End => return false,
                Wanted::Hold => running = self.changed.wait(running).unwrap_or_else(PoisonError::into_inner),
            }
        }
        *running |= only(index);
        true
    }

    /// vCPU thread: runs no more.
    pub fn leave(&self, index: u8) {
        let mut running = lock(&self.running);
        *running &= !only(index);
        self.changed.notify_all();
    }

    /// Waits until none of these vCPUs runs, calling `kick` before and now and then. `false` if that does not happen in time.
    pub fn wait_until_still(&self, vcpus: VcpuSet, timeout: Duration, kick: &dyn Fn()) -> bool {
        let deadline = Instant::now() + timeout;
        let mut running = lock(&self.running);
        while *running & vcpus != 0 {
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            kick();
            let slice = Duration::from_millis(20).min(deadline - now);
            running = self
                .changed
                .wait_timeout(running, slice)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }
}

#[cfg(test)]
#[path = "run_control_tests.rs"]
mod tests;
