//! A bounded table of everything that host programs are connected by, with names that stay unique when places are used
//! again, so that a late event never meets the wrong connection.

use super::connection::{Connection, Ports};
use super::handshake::Handshake;
use std::collections::HashMap;
use vmm_sys_util::epoll::EventSet;

/// The most connections at once, handshakes included. Each may keep [`BUFFER_SIZE`](super::credit::BUFFER_SIZE) bytes.
pub(super) const CONNECTIONS_MAX: usize = 256;

/// What is in a place of the table.
pub(super) enum Entry {
    /// A host program that has not said what it wants.
    Handshake(Handshake),
    /// A connection.
    Connection(Box<Connection>),
}

/// A place of the table.
pub(super) struct Slot {
    pub(super) entry: Entry,
    /// It waits for a receive buffer of the driver.
    pub(super) queued: bool,
    /// What the event loop waits for at present.
    pub(super) watched: Option<EventSet>,
    generation: u16,
}

/// Names a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id {
    index: u16,
    generation: u16,
}

impl Id {
    /// As a token of the event loop, above `first`.
    pub(super) fn token(self, first: u32) -> u32 {
        // 256 indexes and 16 bits of generation stay far below the loop's own tokens.
        first + (u32::from(self.generation) << 8 | u32::from(self.index))
    }

    /// From such a token.
    pub(super) fn from_token(token: u32, first: u32) -> Option<Self> {
        let value = token.checked_sub(first)?;
        Some(Self {
            index: (value & 0xff) as u16,
            generation: (value >> 8) as u16,
        })
    }
}

/// The table.
pub(super) struct Table {
    slots: Vec<Option<Slot>>,
    by_ports: HashMap<Ports, Id>,
    generation: u16,
    len: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            by_ports: HashMap::new(),
            generation: 0,
            len: 0,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= CONNECTIONS_MAX
    }

    /// Puts an entry into a free place, if there is one.
    pub(super) fn insert(&mut self, entry: Entry) -> Option<Id> {
        let index = match self.slots.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.slots.len() < CONNECTIONS_MAX => {
                self.slots.push(None);
                self.slots.len() - 1
            }
            None => return None,
        };
        self.generation = self.generation.wrapping_add(1);
        // Below CONNECTIONS_MAX.
        let id = Id {
            index: index as u16,
            generation: self.generation,
        };
        if let Entry::Connection(connection) = &entry {
            self.by_ports.insert(connection.ports, id);
        }
        *self.slots.get_mut(index)? = Some(Slot {
            entry,
            queued: false,
            watched: None,
            generation: id.generation,
        });
        self.len += 1;
        Some(id)
    }

    pub(super) fn get(&mut self, id: Id) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::from(id.index))?.as_mut()?;
        (slot.generation == id.generation).then_some(slot)
    }

    /// The connection in a place, if it is one.
    pub(super) fn connection(&mut self, id: Id) -> Option<&mut Connection> {
        match &mut self.get(id)?.entry {
            Entry::Connection(connection) => Some(connection),
            Entry::Handshake(_) => None,
        }
    }

    /// The connection of these ports.
    pub(super) fn find(&self, ports: Ports) -> Option<Id> {
        self.by_ports.get(&ports).copied()
    }

    /// Lets the guest use these ports again while the connection ends.
    pub(super) fn release_ports(&mut self, id: Id, ports: Ports) {
        if self.find(ports) == Some(id) {
            self.by_ports.remove(&ports);
        }
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Entry> {
        self.get(id)?;
        let slot = self.slots.get_mut(usize::from(id.index))?.take()?;
        self.len -= 1;
        if let Entry::Connection(connection) = &slot.entry {
            self.release_ports(id, connection.ports);
        }
        Some(slot.entry)
    }

    /// All names in use.
    pub(super) fn ids(&self) -> Vec<Id> {
        let used = self.slots.iter().enumerate();
        let ids = used.filter_map(|(index, slot)| Some((index, slot.as_ref()?.generation)));
        ids.map(|(index, generation)| Id {
            index: index as u16,
            generation,
        })
        .collect()
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.by_ports.clear();
        self.len = 0;
    }
}
