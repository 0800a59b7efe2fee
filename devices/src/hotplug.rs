//! Registers by which parts of a machine (PCI devices, processors) come and go while the guest runs.
//!
//! There are up to 32 units, a bit each. Whoever runs the machine [adds](Hotplug::add) a unit or
//! [asks for it back](Hotplug::ask), and tells the guest by an interrupt to look here. The guest's ACPI methods read which
//! units are new and which are wanted back, and write those that they have let go of; then nobody of the guest uses them
//! any more. A guest that does not listen lets go of nothing, so a unit can be [taken](Hotplug::take) by force.
//!
//! | offset | 32-bit register |
//! | --- | --- |
//! | 0 | present: units that are there |
//! | 4 | added: units that came since the last read |
//! | 8 | wanted: units to let go of, asked for since the last read |
//! | 12 | eject: write the units that were let go of |

use crate::bus::BusDevice;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of bytes of the registers.
pub const SIZE: u64 = 16;
/// Offsets of the registers.
pub const PRESENT: u64 = 0;
/// See [`PRESENT`].
pub const ADDED: u64 = 4;
/// See [`PRESENT`].
pub const WANTED: u64 = 8;
/// See [`PRESENT`].
pub const EJECT: u64 = 12;

/// Called on the guest's thread with the unit that it has let go of.
pub type Ejected = Box<dyn Fn(u8) + Send + Sync>;

/// What a snapshot holds: a bit for each unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Units that are there.
    pub present: u32,
    /// Units that the guest may let go of, whether they are there or were taken by force.
    pub held: u32,
    /// Units that the guest has not heard of.
    pub added: u32,
    /// Units whose wish to be let go of the guest has not heard of.
    pub wanted: u32,
}

impl State {
    fn clear(&mut self, unit: u8) {
        for bits in [
            &mut self.present,
            &mut self.held,
            &mut self.added,
            &mut self.wanted,
        ] {
            *bits &= !bit(unit);
        }
    }
}

/// The units of one kind.
pub struct Hotplug {
    state: Mutex<State>,
    ejected: Ejected,
}

/// The bit of a unit; none for units that cannot be.
fn bit(unit: u8) -> u32 {
    1u32.checked_shl(u32::from(unit)).unwrap_or(0)
}

impl Hotplug {
    /// Registers without units.
    pub fn new(ejected: Ejected) -> Arc<Self> {
        Self::restore(State::default(), ejected)
    }

    /// Registers as they were saved.
    pub fn restore(state: State, ejected: Ejected) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            ejected,
        })
    }

    /// What a snapshot holds.
    pub fn save(&self) -> State {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The guest has found this unit by itself when it started, and may let go of it.
    pub fn hold(&self, unit: u8) {
        let mut state = self.lock();
        state.present |= bit(unit);
        state.held |= bit(unit);
    }

    /// A unit has come: the guest has to be told to look.
    pub fn add(&self, unit: u8) {
        self.add_all([unit]);
    }

    /// The same for several, of which the guest hears at once.
    pub fn add_all(&self, units: impl IntoIterator<Item = u8>) {
        let mut state = self.lock();
        for bit in units.into_iter().map(bit) {
            state.present |= bit;
            state.held |= bit;
            state.added |= bit;
        }
    }

    /// Asks the guest to let go of a unit. It has to be told to look.
    pub fn ask(&self, unit: u8) {
        self.ask_all([unit]);
    }

    /// The same for several, of which the guest hears at once.
    pub fn ask_all(&self, units: impl IntoIterator<Item = u8>) {
        let mut state = self.lock();
        for bit in units.into_iter().map(bit) {
            state.wanted |= bit & state.held;
        }
    }

    /// A unit is gone without the guest's consent, who should clean up and has to be told to look. The unit's number must
    /// not be used again while it [is held](Self::is_held).
    pub fn take(&self, unit: u8) {
        let mut state = self.lock();
        state.present &= !bit(unit);
        state.added &= !bit(unit);
        state.wanted |= bit(unit) & state.held;
    }

    /// A unit is gone before the guest has seen it.
    pub fn forget(&self, unit: u8) {
        self.lock().clear(unit);
    }

    /// Whether the guest may still use this unit, or believe that it does.
    pub fn is_held(&self, unit: u8) -> bool {
        self.lock().held & bit(unit) != 0
    }

    /// The guest's end.
    pub fn registers(self: &Arc<Self>) -> Registers {
        Registers(self.clone())
    }

    fn eject(&self, units: u32) {
        for unit in 0..32 {
            let mut state = self.lock();
            if state.held & units & bit(unit) != 0 {
                state.clear(unit);
                drop(state);
                (self.ejected)(unit);
            }
        }
    }
}

/// The registers as a device on a bus. They are read and written as whole words.
pub struct Registers(Arc<Hotplug>);

impl BusDevice for Registers {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Ok(word) = <&mut [u8; 4]>::try_from(data) else {
            return;
        };
        let mut state = self.0.lock();
        let value = match offset {
            PRESENT => state.present,
            ADDED => std::mem::take(&mut state.added),
            WANTED => std::mem::take(&mut state.wanted),
            _ => 0,
        };
        *word = value.to_le_bytes();
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (EJECT, Ok(word)) = (offset, <[u8; 4]>::try_from(data)) {
            self.0.eject(u32::from_le_bytes(word));
        }
    }
}

#[cfg(test)]
#[path = "hotplug_tests.rs"]
mod tests;
