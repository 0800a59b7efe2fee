//! The host bridge: the device that a guest expects at 00:00.0. It has no function beyond its identity.

use super::PciDevice;
use super::config::{Config, Identity};

/// A host bridge without registers of its own.
pub struct HostBridge {
    config: Config,
}

impl HostBridge {
    /// Makes the bridge, with an id for which guests have no chipset driver (cloud-hypervisor's).
    pub fn new() -> Self {
        Self {
            config: Config::new(Identity {
                vendor: 0x8086,
                device: 0x0d57,
                revision: 0,
                class: [0x06, 0x00, 0x00],
                subsystem_vendor: 0,
                subsystem: 0,
            }),
        }
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl PciDevice for HostBridge {
    fn config(&self) -> &Config {
        &self.config
    }

    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    fn read_bar(&mut self, _bar: u8, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_bar(&mut self, _bar: u8, _offset: u64, _data: &[u8]) {}
}
