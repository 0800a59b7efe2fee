//! A PCI bus with one host bridge: configuration space by ECAM and by the ports 0xcf8/0xcfc, devices, and the memory
//! windows in which their base address registers (BARs) decode.
//!
//! A device brings its configuration space ([`config::Config`]) and answers BAR accesses. The bus ([`bus::PciBus`])
//! places BARs when a device is added, as firmware would, and follows the guest when it moves them.

pub mod access;
pub mod bus;
pub mod config;
mod ghost;
pub mod host_bridge;
pub mod i6300esb;
pub mod msix;

pub use bus::{PciBus, PciError};
pub use config::Config;

/// A PCI function as its bus sees it.
pub trait PciDevice: Send {
    /// The configuration space.
    fn config(&self) -> &Config;
    /// The configuration space, for writes by the guest and placement of BARs by the bus.
    fn config_mut(&mut self) -> &mut Config;
    /// The guest reads configuration bytes. Devices whose capabilities are live override this.
    fn read_config(&mut self, offset: u16, data: &mut [u8]) {
        self.config().read(offset, data);
    }
    /// The guest writes configuration bytes.
    fn write_config(&mut self, offset: u16, data: &[u8]) {
        self.config_mut().write(offset, data);
    }
    /// The guest reads within a BAR.
    fn read_bar(&mut self, bar: u8, offset: u64, data: &mut [u8]);
    /// The guest writes within a BAR.
    fn write_bar(&mut self, bar: u8, offset: u64, data: &[u8]);
    /// A BAR decodes at this guest address from now on, or not at all.
    fn bar_moved(&mut self, _bar: u8, _address: Option<u64>) {}
}
