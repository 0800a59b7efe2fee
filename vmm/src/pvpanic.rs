//! pvpanic: the device by which a guest's kernel says that it has panicked (QEMU, docs/specs/pvpanic.rst).
//!
//! One byte: reading tells which events are understood, writing tells which has happened. Guests find it as a PCI
//! function or, where there is no PCI, as the ACPI device `QEMU0001` with one port.

use std::sync::Arc;

use devices::bus::BusDevice;
use devices::pci::PciDevice;
use devices::pci::config::{Bar, Config, ConfigError, Identity};

use crate::exit::{ExitReason, ExitReport};
use crate::exit_signal::ExitSignal;

/// The port on machines without PCI.
pub const PORT: u16 = 0x505;
/// "The kernel has panicked"; the only event that is understood.
const PANICKED: u8 = 1 << 0;
/// The smallest BAR that PCI knows.
const BAR: Bar = Bar { index: 0, size: 16 };

/// The device.
pub struct PvPanic {
    config: Config,
    exit: Arc<ExitSignal>,
}

impl PvPanic {
    /// A device that ends the VM by this signal.
    pub fn new(exit: Arc<ExitSignal>) -> Result<Self, ConfigError> {
        let mut config = Config::new(Identity {
            vendor: 0x1b36,
            device: 0x0011,
            revision: 1,
            class: [0x08, 0x80, 0x00],
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
        });
        config.add_bar(BAR)?;
        Ok(Self { config, exit })
    }
}

impl BusDevice for PvPanic {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, Some(byte)) = (offset, data.first_mut()) {
            *byte = PANICKED;
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (0, [events, ..]) = (offset, data)
            && events & PANICKED != 0
        {
            self.exit.raise(ExitReport::new(
                ExitReason::Panic,
                "the guest's kernel panicked; see the console's log",
            ));
        }
    }
}

impl PciDevice for PvPanic {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn read_bar(&mut self, _bar: u8, offset: u64, data: &mut [u8]) {
        BusDevice::read(self, offset, data);
    }

    fn write_bar(&mut self, _bar: u8, offset: u64, data: &[u8]) {
        BusDevice::write(self, offset, data);
    }
}

#[cfg(test)]
#[path = "pvpanic_tests.rs"]
mod tests;
