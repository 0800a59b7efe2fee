//! Free page hinting (virtio 1.3 §5.5.6.6): the device starts a run by a number in its configuration space; the driver
//! takes free memory, names it in a queue between that number and "stop", and keeps it until it reads "done".

use super::config::Space;
use crate::memory::Ram;
use crate::metrics::Gauge;
use crate::virtio::queue::Chain;
use serde::Serialize;

/// Numbers with a meaning of their own; runs are counted from the one after (§5.5.6.6).
const STOP: u32 = 0;
const DONE: u32 = 1;

/// A run of hints.
#[derive(Debug, Default, Serialize)]
pub struct HintingState {
    /// Number of the last run, from 2.
    pub run: Gauge,
    /// Whether the driver has named all it found: 1, or 0.
    pub complete: Gauge,
    /// Bytes that the guest had free.
    pub free_bytes: Gauge,
}

/// The device's side of runs.
#[derive(Debug)]
pub(super) struct Hinting {
    run: u32,
    /// The driver has begun with this run.
    active: bool,
}

impl Default for Hinting {
    fn default() -> Self {
        Self {
            run: DONE,
            active: false,
        }
    }
}

impl Hinting {
    /// The number of the last run.
    pub(super) fn run(&self) -> u32 {
        self.run
    }

    /// Goes on counting from `run`. A run that was going on is over.
    pub(super) fn restore(&mut self, run: u32, space: &Space) {
        self.run = run.max(DONE);
        self.end(space);
    }

    /// Begins a new run; the driver is to be told that the configuration has changed.
    pub(super) fn begin(&mut self, space: &Space, state: &HintingState) {
        self.run = self.run.checked_add(1).unwrap_or(DONE + 1);
        self.active = false;
        state.run.set(u64::from(self.run));
        state.complete.set(0);
        state.free_bytes.set(0);
        space.set_hinting_command(self.run);
    }

    /// Ends it: the driver may have its pages back.
    pub(super) fn end(&mut self, space: &Space) {
        self.active = false;
        space.set_hinting_command(DONE);
    }

    /// Takes a message of the driver. Returns whether the run is complete and has ended.
    pub(super) fn take(&mut self, chain: &mut Chain, ram: &Ram, space: &Space, state: &HintingState) -> bool {
        let mut command = [0; 4];
        if chain.readable.read(ram, &mut command).is_ok() {
            let command = u32::from_le_bytes(command);
            let complete = self.active && command == STOP;
            self.active = command == self.run && self.run > DONE;
            if complete {
                state.complete.set(1);
                self.end(space);
            }
            return complete;
        }
        if self.active {
            state
                .free_bytes
                .set(state.free_bytes.get().saturating_add(chain.writable.len()));
        }
        false
    }
}
