//! Marks between the steps of a change, so that the crash tests can end the process between any two of them.

/// Says that a step is done. Does nothing outside this crate's own tests.
#[inline]
pub(crate) fn done(step: &'static str) {
    #[cfg(test)]
    stop::maybe(step);
    #[cfg(not(test))]
    let _ = step;
}

#[cfg(test)]
pub(crate) mod stop {
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Steps that may still be done; negative is no limit.
    static LEFT: AtomicI64 = AtomicI64::new(-1);

    /// Makes the process kill itself after `steps` more steps. Only for a process of its own.
    pub(crate) fn after(steps: i64) {
        LEFT.store(steps, Ordering::SeqCst);
    }

    pub(super) fn maybe(_step: &'static str) {
        if LEFT.load(Ordering::SeqCst) < 0 {
            return;
        }
        if LEFT.fetch_sub(1, Ordering::SeqCst) == 0 {
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
