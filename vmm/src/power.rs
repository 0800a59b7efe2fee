//! The ACPI registers by which a guest powers off and resets (ACPI 6.5 §4.8.3.7, §4.8.3.6), at the ports that
//! [`crate::arch::acpi`] announces.

use std::sync::Arc;

use devices::bus::BusDevice;

use crate::arch::acpi::{RESET, RESET_VALUE, SLEEP_CONTROL, SLEEP_TYPE_S5};
use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;

/// First port.
pub const BASE: u64 = SLEEP_CONTROL as u64;
/// Sleep control, sleep status, reset.
pub const SIZE: u64 = 3;

/// "Enter the state in the type field" (§4.8.3.7.1).
const SLEEP_ENABLE: u8 = 1 << 5;

/// The registers.
pub struct PowerRegisters {
    exit: Arc<ExitSignal>,
}

impl PowerRegisters {
    /// Registers that end the VM by this signal.
    #[must_use]
    pub fn new(exit: Arc<ExitSignal>) -> Self {
        Self { exit }
    }
}

impl BusDevice for PowerRegisters {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        // The wake bit of the status register is never set: nothing sleeps here.
        data.fill(0);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let port = SLEEP_CONTROL + offset as u16;
        match data {
            [value] if port == SLEEP_CONTROL && *value == SLEEP_ENABLE | SLEEP_TYPE_S5 << 2 => {
                self.exit
                    .raise(ExitReport::new(ExitReason::Poweroff, "the guest powered off"));
            }
            [RESET_VALUE] if port == RESET => {
                self.exit.raise(ExitReport::new(
                    ExitReason::Reset,
                    "the guest asked for a reset (ACPI)",
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "power_tests.rs"]
mod tests;
