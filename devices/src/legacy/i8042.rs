//! The keyboard controller, as far as a guest without keyboard uses it: command 0xfe pulses the processor's reset line,
//! which is how Linux (`reboot=k`) and others restart a PC.

use crate::bus::BusDevice;

/// First port.
pub const BASE: u64 = 0x60;
/// Ports 0x60 (data) to 0x64 (command and status). Those in between have other owners on a PC; here they read as zero.
pub const SIZE: u64 = 5;

/// Offset of the data port.
const DATA: u64 = 0;
/// Offset of the command and status port.
const COMMAND: u64 = 4;

/// Pulse the reset line.
const RESET_CPU: u8 = 0xfe;
/// Read the output port.
const READ_OUTPUT_PORT: u8 = 0xd0;
/// Self test, and what a healthy controller answers.
const SELF_TEST: u8 = 0xaa;
const SELF_TEST_PASSED: u8 = 0x55;
/// Read the configuration byte.
const READ_CONFIG: u8 = 0x20;

/// Status: the output buffer holds a byte.
const STATUS_OUTPUT_FULL: u8 = 1;
/// Status: the self test has passed.
const STATUS_SYSTEM: u8 = 4;
/// Output port: the processor is not held in reset, A20 is open.
const OUTPUT_PORT: u8 = 3;

/// The keyboard controller.
pub struct I8042 {
    reset: Box<dyn Fn() + Send>,
    output: Option<u8>,
}

impl I8042 {
    /// Makes a controller that calls `reset` when the guest pulses the reset line.
    pub fn new(reset: Box<dyn Fn() + Send>) -> Self {
        Self { reset, output: None }
    }
}

impl BusDevice for I8042 {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Some(byte) = data.first_mut() else { return };
        *byte = match offset {
            DATA => self.output.take().unwrap_or(0),
            COMMAND => {
                STATUS_SYSTEM
                    | if self.output.is_some() {
                        STATUS_OUTPUT_FULL
                    } else {
                        0
                    }
            }
            _ => 0,
        };
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        match (offset, data) {
            (COMMAND, [RESET_CPU]) => (self.reset)(),
            (COMMAND, [SELF_TEST]) => self.output = Some(SELF_TEST_PASSED),
            (COMMAND, [READ_OUTPUT_PORT]) => self.output = Some(OUTPUT_PORT),
            // No interrupts, both ports disabled.
            (COMMAND, [READ_CONFIG]) => self.output = Some(0x34),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "i8042_tests.rs"]
mod tests;
