//! Which frames the driver wants to see: its receive modes and address tables (virtio 1.3 §5.1.6.5.1 and §5.1.6.5.2).
//!
//! Until the driver says otherwise, all of them.

use serde::{Deserialize, Serialize};

/// The most addresses of one kind that are remembered. With more the driver gets all of that kind, as the specification
/// allows.
pub const MAX_ADDRESSES: usize = 64;
/// The address of everyone.
const BROADCAST: Address = [0xff; 6];

/// An Ethernet address of any kind, as it is in a frame.
pub type Address = [u8; 6];

/// Whether an address is one of a group; the broadcast address is one, too.
pub fn is_multicast(address: Address) -> bool {
    address.first().is_some_and(|first| first & 1 != 0)
}

/// A table of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AddressTable {
    /// The addresses, at most [`MAX_ADDRESSES`].
    pub addresses: Vec<Address>,
    /// There were more.
    pub overflowed: bool,
}

impl AddressTable {
    fn accepts(&self, address: Address) -> bool {
        self.overflowed || self.addresses.contains(&address)
    }
}

/// A receive mode that the driver switches on and off (§5.1.6.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything, whatever else is said.
    Promiscuous,
    /// All multicast frames.
    AllMulticast,
    /// All unicast frames.
    AllUnicast,
    /// No multicast frames but broadcast ones.
    NoMulticast,
    /// No unicast frames.
    NoUnicast,
    /// No broadcast frames.
    NoBroadcast,
}

/// Modes and tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// See [`Mode::Promiscuous`].
    pub promiscuous: bool,
    /// See [`Mode::AllMulticast`].
    pub all_multicast: bool,
    /// See [`Mode::AllUnicast`].
    pub all_unicast: bool,
    /// See [`Mode::NoMulticast`].
    pub no_multicast: bool,
    /// See [`Mode::NoUnicast`].
    pub no_unicast: bool,
    /// See [`Mode::NoBroadcast`].
    pub no_broadcast: bool,
    /// The card's own address.
    pub mac: Address,
    /// More unicast addresses.
    pub unicast: AddressTable,
    /// Multicast addresses.
    pub multicast: AddressTable,
}

impl Filter {
    /// Lets everything pass to a card with this address.
    pub fn new(mac: Address) -> Self {
        Self {
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            mac,
            unicast: AddressTable::default(),
            multicast: AddressTable::default(),
        }
    }

    /// Switches a mode.
    pub fn set(&mut self, mode: Mode, on: bool) {
        let field = match mode {
            Mode::Promiscuous => &mut self.promiscuous,
            Mode::AllMulticast => &mut self.all_multicast,
            Mode::AllUnicast => &mut self.all_unicast,
            Mode::NoMulticast => &mut self.no_multicast,
            Mode::NoUnicast => &mut self.no_unicast,
            Mode::NoBroadcast => &mut self.no_broadcast,
        };
        *field = on;
    }

    /// Whether the driver wants a frame to this address.
    pub fn accepts(&self, destination: Address) -> bool {
        if self.promiscuous {
            return true;
        }
        if destination == BROADCAST {
            return !self.no_broadcast;
        }
        match is_multicast(destination) {
            true => !self.no_multicast && (self.all_multicast || self.multicast.accepts(destination)),
            false => {
                let ours = self.all_unicast || destination == self.mac || self.unicast.accepts(destination);
                !self.no_unicast && ours
            }
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
