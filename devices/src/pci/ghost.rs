//! What is left of a device that was pulled out: its configuration space reads as all ones, so that the guest sees that it is
//! gone, and where its BARs were the guest reads zeros. Drivers on their way out wait for a reset to be acknowledged by a zero
//! (virtio 1.3 §4.1.4.3.2), and would wait for ever on the ones of an empty bus.

use super::PciDevice;
use super::config::Config;

/// Stands in for a device until the guest has let go of it.
pub(super) struct Ghost {
    /// Where the BARs decode.
    config: Config,
}

impl Ghost {
    /// In place of the device with this configuration space.
    pub(super) fn new(config: Config) -> Self {
        Self { config }
    }
}

impl PciDevice for Ghost {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn read_config(&mut self, _offset: u16, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_config(&mut self, _offset: u16, _data: &[u8]) {}

    fn read_bar(&mut self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write_bar(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
}
