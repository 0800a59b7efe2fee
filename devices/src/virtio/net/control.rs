//! Commands of the control queue (virtio 1.3 §5.1.6.5), as the driver writes them.
//!
//! A command is a class, a number and a few bytes; only the address tables are longer. Reading them takes no more memory
//! than what is kept of them, whatever lengths the driver claims.

use super::features::{self, CTRL_GUEST_OFFLOADS, CTRL_MAC_ADDR, CTRL_RX, CTRL_RX_EXTRA, GUEST_ANNOUNCE, MQ};
use super::filter::{Address, AddressTable, MAX_ADDRESSES, Mode};
use crate::memory::Ram;
use crate::virtio::buffer::Buffer;

/// The command was carried out.
pub const OK: u8 = 0;
/// It was not.
pub const ERR: u8 = 1;

/// Classes of commands.
mod class {
    pub(super) const RX: u8 = 0;
    pub(super) const MAC: u8 = 1;
    pub(super) const ANNOUNCE: u8 = 3;
    pub(super) const MQ: u8 = 4;
    pub(super) const GUEST_OFFLOADS: u8 = 5;
}

/// What the driver asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Switch a receive mode.
    Mode(Mode, bool),
    /// Replace both address tables.
    Tables {
        /// Unicast addresses.
        unicast: AddressTable,
        /// Multicast addresses.
        multicast: AddressTable,
    },
    /// Have another address.
    Address(Address),
    /// The driver has announced itself.
    Announced,
    /// Use so many pairs of queues.
    Pairs(u16),
    /// What the driver takes from now on, as feature bits.
    Offloads(u64),
}

impl Command {
    /// Reads a command of a driver with these features. Nothing if it is none, or none that the driver may use.
    pub fn read(mut from: Buffer, ram: &Ram, features: u64) -> Option<Self> {
        let [class, command] = bytes(&mut from, ram)?;
        let needed = match (class, command) {
            (class::RX, 0 | 1) | (class::MAC, 0) => CTRL_RX,
            (class::RX, 2..=5) => CTRL_RX_EXTRA,
            (class::MAC, 1) => CTRL_MAC_ADDR,
            (class::ANNOUNCE, 0) => GUEST_ANNOUNCE,
            (class::MQ, 0) => MQ,
            (class::GUEST_OFFLOADS, 0) => CTRL_GUEST_OFFLOADS,
            _ => return None,
        };
        if !features::has(features, needed) {
            return None;
        }
        Some(match class {
            class::RX => {
                let [on] = bytes(&mut from, ram)?;
                let mode = match command {
                    0 => Mode::Promiscuous,
                    1 => Mode::AllMulticast,
                    2 => Mode::AllUnicast,
                    3 => Mode::NoMulticast,
                    4 => Mode::NoUnicast,
                    _ => Mode::NoBroadcast,
                };
                Self::Mode(mode, on != 0)
            }
            class::MAC if command == 0 => Self::Tables {
                unicast: table(&mut from, ram)?,
                multicast: table(&mut from, ram)?,
            },
            class::MAC => Self::Address(bytes(&mut from, ram)?),
            class::ANNOUNCE => Self::Announced,
            class::MQ => Self::Pairs(u16::from_le_bytes(bytes(&mut from, ram)?)),
            _ => Self::Offloads(u64::from_le_bytes(bytes(&mut from, ram)?)),
        })
    }
}

fn bytes<const LEN: usize>(from: &mut Buffer, ram: &Ram) -> Option<[u8; LEN]> {
    let mut bytes = [0; LEN];
    from.read(ram, &mut bytes).ok()?;
    Some(bytes)
}

/// Reads a table: the number of addresses, then the addresses.
fn table(from: &mut Buffer, ram: &Ram) -> Option<AddressTable> {
    let count = u64::from(u32::from_le_bytes(bytes(from, ram)?));
    // Also keeps the product below from being large.
    if count > from.len() {
        return None;
    }
    let count = usize::try_from(count).ok()?;
    let mut addresses = Vec::new();
    for _ in 0..count.min(MAX_ADDRESSES) {
        addresses.push(bytes(from, ram)?);
    }
    let more = count - addresses.len();
    from.skip(6 * more).ok()?;
    Some(AddressTable {
        addresses,
        overflowed: more > 0,
    })
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
