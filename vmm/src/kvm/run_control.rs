//! Who decides whether vCPUs run: start, pause, resume and end for all of them at once.
//!
//! The control thread changes what is wanted and kicks the vCPUs out of `KVM_RUN`; each vCPU thread asks between
//! exits. A kick cannot get lost: the kicker first says what it wants, then sets `immediate_exit` in the vCPU's shared
//! page, then sends a signal; the vCPU clears `immediate_exit` before it asks (KVM API §5, `immediate_exit`).

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

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

/// Shared between the control thread and all vCPU threads.
pub struct RunControl {
    wanted: AtomicU8,
    running: Mutex<usize>,
    changed: Condvar,
}

impl Default for RunControl {
    fn default() -> Self {
        Self {
            wanted: AtomicU8::new(Wanted::Hold as u8),
            running: Mutex::new(0),
            changed: Condvar::new(),
        }
    }
}

impl RunControl {
    /// What vCPUs are to do now.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        match self.wanted.load(Ordering::SeqCst) {
            0 => Wanted::Hold,
            1 => Wanted::Run,
            _ => Wanted::End,
        }
    }

    /// Changes what vCPUs are to do. The end is final.
    pub fn want(&self, wanted: Wanted) {
        // The lock orders this against a vCPU that is about to sleep on the condition.
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.wanted() != Wanted::End {
            self.wanted.store(wanted as u8, Ordering::SeqCst);
        }
        self.changed.notify_all();
    }

    /// vCPU thread: waits until it may run. `false` means that the thread is to return.
    pub fn enter(&self) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.wanted() {
                Wanted::Run => break,
                Wanted::End => return false,
                Wanted::Hold => running = self.changed.wait(running).unwrap_or_else(PoisonError::into_inner),
            }
        }
        *running += 1;
        true
    }

    /// vCPU thread: runs no more.
    pub fn leave(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        *running = running.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Waits until no vCPU runs, calling `kick` before and now and then. `false` if that does not happen in time.
    pub fn wait_until_still(&self, timeout: Duration, kick: &dyn Fn()) -> bool {
        let deadline = Instant::now() + timeout;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while *running > 0 {
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
