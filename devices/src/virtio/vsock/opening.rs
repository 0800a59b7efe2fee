//! How connections come about: host programs are accepted and say which port they want, the guest asks for ports of the
//! host. The table's size bounds both.

use super::connection::{Connection, Ports};
use super::handshake::{Handshake, Said};
use super::packet::Header;
use super::table::{Entry, Id};
use super::{FIRST_HOST_PORT, TICK, TOKEN_LISTENER, Vsock};
use crate::virtio::worker::Io;
use std::io;
use std::os::fd::AsRawFd;
use vmm_sys_util::epoll::EventSet;

/// Host programs accepted at once.
const ACCEPT_BUDGET: usize = 16;

impl Vsock {
    pub(super) fn set_accepting(&mut self, accepting: bool, io: &Io) {
        if accepting == self.accepting {
            return;
        }
        let events = if accepting {
            EventSet::IN
        } else {
            EventSet::empty()
        };
        match io.modify(self.listener.as_raw_fd(), TOKEN_LISTENER, events) {
            Ok(()) => self.accepting = accepting,
            Err(error) => tracing::debug!(%error, "vsock listener cannot be waited for"),
        }
    }

    pub(super) fn accept(&mut self, io: &Io) {
        for _ in 0..ACCEPT_BUDGET {
            if self.table.is_full() {
                break;
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // Out of descriptors, say. The listener would be ready again at once, so it has to wait for a tick.
                    tracing::debug!(%error, "vsock connection cannot be accepted");
                    self.set_accepting(false, io);
                    self.timer_armed = self.timer.reset(TICK, Some(TICK)).is_ok();
                    break;
                }
            };
            let Ok(handshake) = Handshake::new(stream) else {
                continue;
            };
            if let Some(id) = self.table.insert(Entry::Handshake(handshake)) {
                self.follow(id, io);
            }
        }
    }

    pub(super) fn slot_ready(&mut self, id: Id, events: EventSet, io: &Io) {
        let Some(slot) = self.table.get(id) else { return };
        match &mut slot.entry {
            Entry::Connection(connection) => connection.stream_ready(events),
            Entry::Handshake(handshake) => match handshake.read() {
                Said::Port(port) => return self.connect_to_guest(id, port, io),
                Said::NotYet if !events.intersects(EventSet::HANG_UP | EventSet::ERROR) => {}
                _ => {
                    self.metrics.refused.increment();
                    self.table.remove(id);
                }
            },
        }
        self.follow(id, io);
        self.set_accepting(!self.table.is_full(), io);
    }

    /// A host program has said which port of the guest it wants.
    fn connect_to_guest(&mut self, id: Id, port: u32, io: &Io) {
        let watched = self.table.get(id).and_then(|slot| slot.watched);
        let Some(Entry::Handshake(handshake)) = self.table.remove(id) else {
            return;
        };
        if watched.is_some() {
            // It gets another name, so it is registered anew.
            let _ = io.remove(handshake.fd());
        }
        let mut ports = Ports {
            host: self.next_port,
            guest: port,
        };
        // There are at most as many collisions as connections.
        while self.table.find(ports).is_some() {
            ports.host = ports.host.wrapping_add(1).max(FIRST_HOST_PORT);
        }
        self.next_port = ports.host.wrapping_add(1).max(FIRST_HOST_PORT);
        let cid = u64::from(self.config.cid);
        let connection = Box::new(Connection::from_host(ports, cid, handshake.into_stream()));
        self.metrics.connections.increment();
        if let Some(id) = self.table.insert(Entry::Connection(connection)) {
            self.follow(id, io);
        }
    }

    /// The guest wants a port of the host.
    pub(super) fn connect_to_host(&mut self, header: &Header, io: &Io) {
        let ports = Ports {
            host: header.destination_port,
            guest: header.source_port,
        };
        let stream = match self.table.is_full() {
            true => Err(io::Error::from(io::ErrorKind::QuotaExceeded)),
            false => self.dialer.dial(ports.host),
        };
        match stream {
            Ok(stream) => {
                self.metrics.connections.increment();
                let cid = u64::from(self.config.cid);
                let connection = Box::new(Connection::from_guest(ports, cid, stream, header));
                if let Some(id) = self.table.insert(Entry::Connection(connection)) {
                    self.follow(id, io);
                }
            }
            Err(error) => {
                tracing::debug!(%error, port = ports.host, "guest's vsock connection refused");
                self.metrics.refused.increment();
                self.resets.push_back(header.reset());
            }
        }
    }
}
