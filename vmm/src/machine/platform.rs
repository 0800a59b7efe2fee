//! Buttons and small devices of a machine.

use uuid::Uuid;

use super::{LifeError, Machine};
use crate::control::state::{DebuggerState, VmState};
use crate::events::Event;
use crate::generation;
use crate::watchdog::Watchdog;

impl Machine {
    /// Asks the guest to power off.
    pub fn press_power_button(&self) -> Result<(), LifeError> {
        self.press("press the power button", Event::PowerButton)
    }

    /// Asks the guest to sleep. What it does about that is its own affair: there is no sleep state that the machine
    /// knows of.
    pub fn press_sleep_button(&self) -> Result<(), LifeError> {
        self.press("press the sleep button", Event::SleepButton)
    }

    fn press(&self, what: &'static str, event: Event) -> Result<(), LifeError> {
        if self.state != VmState::Running {
            return Err(self.refuse(what));
        }
        self.events.raise(event).map_err(LifeError::Event)
    }

    /// The watchdog.
    #[must_use]
    pub fn watchdog(&self) -> Option<&Watchdog> {
        self.watchdog.as_ref().map(|(watchdog, _)| &**watchdog)
    }

    /// What a debugger does, where one can come.
    #[must_use]
    pub fn debugger(&self) -> Option<DebuggerState> {
        self.debugger.as_ref().map(|debugger| debugger.link.state())
    }

    /// Makes the VM another one, and tells the guest.
    pub fn set_generation_id(&mut self, id: Uuid) -> Result<(), LifeError> {
        if self.config.generation_id.is_none() {
            return Err(LifeError::Absent {
                device: "generation id",
                field: "generation_id",
            });
        }
        generation::write(&self.memory, id)?;
        self.config.generation_id = Some(id);
        match self.state {
            VmState::Created => Ok(()),
            _ => self.events.raise(Event::Generation).map_err(LifeError::Event),
        }
    }
}
