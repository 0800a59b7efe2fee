//! A 16550 serial port (`ttyS0`), by the `vm-superio` crate, with an output sink and a bounded input.
//!
//! The guest's bytes go to the sink on the virtual CPU's thread, so the sink must not block. Input that does not fit into
//! the port's FIFO is refused; whoever has more waits for the call that says there is room again.

use crate::bus::BusDevice;
use crate::interrupt::InterruptLine;
use crate::metrics::Counter;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::Arc;
use vm_superio::serial::{SerialEvents, SerialState};
use vm_superio::{Serial as Uart, Trigger};

/// First port of the first serial port.
pub const COM1_BASE: u64 = 0x3f8;
/// Number of ports.
pub const SIZE: u64 = 8;
/// Interrupt of the first serial port.
pub const COM1_IRQ: u32 = 4;

/// The port's counters.
#[derive(Debug, Default, Serialize)]
pub struct SerialMetrics {
    /// Bytes from the guest.
    pub bytes_out: Counter,
    /// Bytes from the guest that the sink did not take.
    pub bytes_lost: Counter,
    /// Bytes to the guest.
    pub bytes_in: Counter,
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Baud rate divisor, low then high byte.
    pub divisor: [u8; 2],
    /// Interrupt enable register.
    pub interrupt_enable: u8,
    /// Interrupt identification register.
    pub interrupt_identification: u8,
    /// Line control and line status registers.
    pub line: [u8; 2],
    /// Modem control and modem status registers.
    pub modem: [u8; 2],
    /// Scratch register.
    pub scratch: u8,
    /// Input that the guest has not read.
    pub input: Vec<u8>,
}

struct Line(Arc<dyn InterruptLine>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.trigger()
    }
}

/// Called on a virtual CPU's thread when the guest has read all its input.
pub type InputWanted = Box<dyn Fn() + Send>;

struct Events {
    metrics: Arc<SerialMetrics>,
    input_wanted: InputWanted,
}

impl SerialEvents for Events {
    fn buffer_read(&self) {
        self.metrics.bytes_in.increment();
    }

    fn out_byte(&self) {
        self.metrics.bytes_out.increment();
    }

    fn tx_lost_byte(&self) {
        self.metrics.bytes_lost.increment();
    }

    fn in_buffer_empty(&self) {
        (self.input_wanted)();
    }
}

/// The saved state holds more input than the FIFO does, or its interrupt could not be raised.
#[derive(Debug, thiserror::Error)]
#[error("cannot restore the serial port: {0}")]
pub struct RestoreError(String);

/// A serial port.
pub struct Serial {
    uart: Uart<Line, Events, Box<dyn Write + Send>>,
    metrics: Arc<SerialMetrics>,
}

impl Serial {
    /// Makes a port that interrupts by `line` and writes the guest's output to `output`.
    pub fn new(
        line: Arc<dyn InterruptLine>,
        output: Box<dyn Write + Send>,
        input_wanted: InputWanted,
    ) -> Self {
        let metrics = Arc::<SerialMetrics>::default();
        let events = Events {
            metrics: metrics.clone(),
            input_wanted,
        };
        Self {
            uart: Uart::with_events(Line(line), events, output),
            metrics,
        }
    }

    /// Makes the port again as it was saved.
    pub fn restore(
        state: State,
        line: Arc<dyn InterruptLine>,
        output: Box<dyn Write + Send>,
        input_wanted: InputWanted,
    ) -> Result<Self, RestoreError> {
        let metrics = Arc::<SerialMetrics>::default();
        let events = Events {
            metrics: metrics.clone(),
            input_wanted,
        };
        let [baud_divisor_low, baud_divisor_high] = state.divisor;
        let [line_control, line_status] = state.line;
        let [modem_control, modem_status] = state.modem;
        let registers = SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control,
            line_status,
            modem_control,
            modem_status,
            scratch: state.scratch,
            in_buffer: state.input,
        };
        let uart = Uart::from_state(&registers, Line(line), events, output)
            .map_err(|error| RestoreError(error.to_string()))?;
        Ok(Self { uart, metrics })
    }

    /// What a snapshot holds.
    pub fn save(&self) -> State {
        let state = self.uart.state();
        State {
            divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line: [state.line_control, state.line_status],
            modem: [state.modem_control, state.modem_status],
            scratch: state.scratch,
            input: state.in_buffer,
        }
    }

    /// Gives input to the guest. Returns how many bytes there was room for.
    pub fn enqueue(&mut self, input: &[u8]) -> usize {
        match self.uart.enqueue_raw_bytes(input) {
            Ok(count) => count,
            Err(vm_superio::serial::Error::FullFifo) => 0,
            Err(error) => {
                tracing::debug!(%error, "serial port cannot interrupt");
                // The bytes are in the FIFO; a guest that polls finds them.
                input.len()
            }
        }
    }

    /// Bytes that [`enqueue`](Self::enqueue) would take.
    pub fn room(&self) -> usize {
        self.uart.fifo_capacity()
    }

    /// The port's counters.
    pub fn metrics(&self) -> Arc<SerialMetrics> {
        self.metrics.clone()
    }
}

impl BusDevice for Serial {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        // Registers are one byte wide.
        if let (Ok(offset), [byte]) = (u8::try_from(offset), data) {
            *byte = self.uart.read(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (Ok(offset), [byte]) = (u8::try_from(offset), data) {
            // A lost byte is counted; the guest must not be able to fill a log with it.
            let _ = self.uart.write(offset, *byte);
        }
    }
}

#[cfg(test)]
#[path = "serial_tests.rs"]
mod tests;
