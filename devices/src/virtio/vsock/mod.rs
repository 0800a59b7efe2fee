//! The socket device (virtio 1.3 §5.10), in this process: the guest's stream sockets meet unix sockets of the host.
//!
//! One thread owns all connections. [`packet`] knows the wire format, [`credit`] the flow control, `connection` one
//! connection, `handshake` the host's side of opening one; this file moves packets between them and the queues. What a
//! guest can make us keep is bounded by the number of connections and the credit of each.

mod config;
mod connection;
pub mod credit;
mod handshake;
mod opening;
pub mod packet;
mod table;

pub use config::{Config, State, VsockError, VsockMetrics};

use crate::memory::Ram;
use crate::metrics::Metrics;
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::queue::Chain;
use crate::virtio::worker::{Backend, Io};
use connection::{Ports, Produced};
use handshake::Dialer;
use packet::{HEADER_LEN, HOST_CID, Header, Operation, TYPE_STREAM};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};
use table::{Entry, Id, Table};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;
/// Queue indexes.
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;
const EVENT: usize = 2;
/// Packets in one direction before other events get a turn.
const BUDGET: usize = 256;
/// Resets for connections that we do not have, waiting for the driver's buffers. When there are more, we stop reading what
/// it sends until it takes some.
const RESETS_MAX: usize = 256;
/// How often deadlines are looked at while there are any.
const TICK: Duration = Duration::from_secs(1);
/// Host ports of connections that the host opened come from here upwards, where nobody listens.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// "All connections are gone" (§5.10.6.7).
const EVENT_TRANSPORT_RESET: u32 = 0;

const TOKEN_LISTENER: u32 = 0;
const TOKEN_TIMER: u32 = 1;
const TOKEN_SLOTS: u32 = 2;

/// The socket device.
pub struct Vsock {
    config: Config,
    listener: UnixListener,
    dialer: Dialer,
    space: Arc<ConfigSpace>,
    metrics: Arc<VsockMetrics>,
    table: Table,
    /// Connections that have something for the guest, each once, served in turn.
    ready: VecDeque<Id>,
    resets: VecDeque<Header>,
    timer: TimerFd,
    timer_armed: bool,
    /// The listener is waited for; not so while the table is full.
    accepting: bool,
    next_port: u32,
    /// The driver is still to be told that its old connections are gone.
    transport_reset_due: bool,
}

impl Vsock {
    /// Makes a socket device that listens at `config.socket`, where nothing may be yet.
    pub fn new(config: Config) -> Result<Self, VsockError> {
        let listener = UnixListener::bind(&config.socket).map_err(|source| VsockError::Listen {
            path: config.socket.clone(),
            source,
        })?;
        Self::with_listener(config, listener)
    }

    /// The same with a listener that is bound already.
    pub fn with_listener(config: Config, listener: UnixListener) -> Result<Self, VsockError> {
        // 0 to 2 are the hypervisor, loopback and the host; all ones is "any" (§5.10.4).
        if config.cid <= HOST_CID as u32 || config.cid == u32::MAX {
            return Err(VsockError::Cid(config.cid));
        }
        let failed = |source| VsockError::Listen {
            path: config.socket.clone(),
            source,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let dialer = Dialer::new(&config.socket).map_err(failed)?;
        let timer = TimerFd::new().map_err(|error| VsockError::Timer(error.into()))?;
        Ok(Self {
            space: Arc::new(ConfigSpace::new(u64::from(config.cid).to_le_bytes().to_vec())),
            config,
            listener,
            dialer,
            metrics: Arc::default(),
            table: Table::new(),
            ready: VecDeque::new(),
            resets: VecDeque::new(),
            timer,
            timer_armed: false,
            accepting: false,
            next_port: FIRST_HOST_PORT,
            transport_reset_due: false,
        })
    }

    /// Makes the device again as it was saved. The guest's old connections are reset.
    pub fn restore(state: State, listener: UnixListener) -> Result<Self, VsockError> {
        let mut vsock = Self::with_listener(state.config, listener)?;
        vsock.transport_reset_due = true;
        Ok(vsock)
    }

    /// Everything that may have to follow a change of a slot: forget it, queue it, wait for it.
    fn follow(&mut self, id: Id, io: &Io) {
        let Some(slot) = self.table.get(id) else { return };
        let (fd, wanted, deadline) = match &slot.entry {
            Entry::Handshake(handshake) => (handshake.fd(), Some(EventSet::IN), true),
            Entry::Connection(connection) => {
                if connection.has_packet() && !slot.queued {
                    slot.queued = true;
                    self.ready.push_back(id);
                }
                (
                    connection.fd(),
                    connection.interest(),
                    connection.deadline().is_some(),
                )
            }
        };
        if slot.watched != wanted {
            let token = id.token(TOKEN_SLOTS);
            let result = match (slot.watched, wanted) {
                (None, Some(events)) => io.add(fd, token, events),
                (Some(_), Some(events)) => io.modify(fd, token, events),
                (Some(_), None) => io.remove(fd),
                (None, None) => Ok(()),
            };
            slot.watched = wanted;
            if let Err(error) = result {
                tracing::debug!(%error, "vsock connection cannot be waited for");
            }
        }
        if let Entry::Connection(connection) = &slot.entry {
            let (over, orphaned, ports) = (connection.is_over(), connection.is_orphaned(), connection.ports);
            if over {
                self.table.remove(id);
            } else if orphaned {
                self.table.release_ports(id, ports);
            }
        }
        self.set_accepting(!self.table.is_full(), io);
        if deadline && !self.timer_armed {
            self.timer_armed = self.timer.reset(TICK, Some(TICK)).is_ok();
        }
    }

    /// One packet of the guest.
    fn handle(&mut self, mut chain: Chain, ram: &Ram, io: &Io) {
        let mut bytes = [0; HEADER_LEN];
        if chain.readable.read(ram, &mut bytes).is_err() {
            return self.metrics.invalid_packets.increment();
        }
        let header = Header::decode(&bytes);
        // A guest that forges its own address gets no answer: there is nobody to answer to.
        if header.source_cid != u64::from(self.config.cid) {
            return self.metrics.invalid_packets.increment();
        }
        let ports = Ports {
            host: header.destination_port,
            guest: header.source_port,
        };
        let known = self.table.find(ports);
        let addressed = header.destination_cid == HOST_CID && header.socket_type == TYPE_STREAM;
        match (known.filter(|_| addressed), header.operation) {
            (Some(id), _) => {
                if header.operation == Some(Operation::Data) {
                    self.metrics.bytes_from_guest.add(u64::from(header.len));
                }
                if let Some(connection) = self.table.connection(id) {
                    connection.packet(&header, &mut chain.readable, ram);
                }
                self.follow(id, io);
            }
            (None, Some(Operation::Request)) if addressed => self.connect_to_host(&header, io),
            // A reset is never answered, or two sides could go on for ever.
            (None, Some(Operation::Reset)) => {}
            (None, _) => self.resets.push_back(header.reset()),
        }
    }

    fn transmit(&mut self, io: &mut Io) {
        let ram = io.memory.memory();
        let mut taken = 0;
        loop {
            if let Some(queue) = io.queues.get_mut(TRANSMIT) {
                queue.disable_notification();
            }
            while taken < BUDGET && self.resets.len() < RESETS_MAX {
                let Some(chain) = io.queues.get_mut(TRANSMIT).and_then(|queue| queue.pop()) else {
                    break;
                };
                let head = chain.head;
                self.handle(chain, &ram, io);
                if let Some(queue) = io.queues.get_mut(TRANSMIT) {
                    queue.add_used(head, 0);
                }
                taken += 1;
            }
            let Some(queue) = io.queues.get_mut(TRANSMIT) else {
                return;
            };
            if taken >= BUDGET {
                queue.wake_again();
                break;
            }
            // With too many resets due, `receive` wakes us when the driver has taken some.
            if self.resets.len() >= RESETS_MAX || !queue.enable_notification() {
                break;
            }
        }
        if let Some(queue) = io.queues.get_mut(TRANSMIT) {
            queue.signal();
        }
    }

    /// Fills the driver's receive buffers for as long as there are packets and buffers.
    fn receive(&mut self, io: &mut Io) {
        let ram = io.memory.memory();
        let was_stalled = self.resets.len() >= RESETS_MAX;
        let mut sent = 0;
        if let Some(queue) = io.queues.get_mut(RECEIVE) {
            queue.disable_notification();
        }
        while !(self.resets.is_empty() && self.ready.is_empty()) {
            let Some(queue) = io.queues.get_mut(RECEIVE) else {
                return;
            };
            if sent >= BUDGET {
                queue.wake_again();
                break;
            }
            let Some(mut chain) = queue.pop() else {
                if queue.enable_notification() {
                    queue.disable_notification();
                    continue;
                }
                break;
            };
            sent += 1;
            match self.fill(&mut chain, &ram, io) {
                Produced::Packet { len, data } => {
                    self.metrics.bytes_to_guest.add(u64::from(data));
                    if let Some(queue) = io.queues.get_mut(RECEIVE) {
                        queue.add_used(chain.head, len);
                    }
                }
                Produced::Nothing => {
                    if let Some(queue) = io.queues.get_mut(RECEIVE) {
                        queue.undo_pop(chain.head);
                    }
                }
                Produced::BadBuffer => {
                    if let Some(queue) = io.queues.get_mut(RECEIVE) {
                        queue.fail("vsock receive buffer too short or outside of guest memory");
                    }
                    break;
                }
            }
        }
        if let Some(queue) = io.queues.get_mut(RECEIVE) {
            queue.signal();
        }
        if was_stalled && self.resets.len() < RESETS_MAX {
            self.transmit(io);
            // What that has brought waits for the next turn.
            if let Some(queue) = io.queues.get(RECEIVE) {
                queue.wake_again();
            }
        }
    }

    /// Writes one packet: a reset that is due, or that of the next connection which has one.
    fn fill(&mut self, chain: &mut Chain, ram: &Ram, io: &Io) -> Produced {
        if let Some(reset) = self.resets.pop_front() {
            return match chain.writable.write(ram, &reset.encode()) {
                Ok(()) => Produced::Packet {
                    len: HEADER_LEN as u32,
                    data: 0,
                },
                Err(_) => Produced::BadBuffer,
            };
        }
        while let Some(id) = self.ready.pop_front() {
            let Some(slot) = self.table.get(id) else { continue };
            slot.queued = false;
            let Entry::Connection(connection) = &mut slot.entry else {
                continue;
            };
            let produced = connection.produce(&mut chain.writable, ram);
            self.follow(id, io);
            if produced != Produced::Nothing {
                return produced;
            }
        }
        Produced::Nothing
    }

    fn tick(&mut self, io: &Io) {
        // The timer is readable, so this does not block.
        let _ = self.timer.wait();
        let now = Instant::now();
        let mut waiting = false;
        for id in self.table.ids() {
            let Some(slot) = self.table.get(id) else { continue };
            let deadline = match &slot.entry {
                Entry::Handshake(handshake) => Some(handshake.deadline),
                Entry::Connection(connection) => connection.deadline(),
            };
            match (&mut slot.entry, deadline) {
                (_, None) => {}
                (_, Some(deadline)) if deadline > now => waiting = true,
                (Entry::Connection(connection), _) => connection.expire(),
                (Entry::Handshake(_), _) => {
                    self.metrics.refused.increment();
                    self.table.remove(id);
                }
            }
            self.follow(id, io);
        }
        self.set_accepting(!self.table.is_full(), io);
        if !waiting && self.timer.clear().is_ok() {
            self.timer_armed = false;
        }
    }

    fn send_events(&mut self, io: &mut Io) {
        if !self.transport_reset_due {
            return;
        }
        let ram = io.memory.memory();
        let Some(queue) = io.queues.get_mut(EVENT) else {
            return;
        };
        let Some(mut chain) = queue.pop() else { return };
        let event = EVENT_TRANSPORT_RESET.to_le_bytes();
        match chain.writable.write(&ram, &event) {
            Ok(()) => queue.add_used(chain.head, event.len() as u32),
            Err(_) => queue.fail("vsock event buffer too short or outside of guest memory"),
        }
        queue.signal();
        self.transport_reset_due = false;
    }
}

impl Backend for Vsock {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Vsock
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 3]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        io.add(self.listener.as_raw_fd(), TOKEN_LISTENER, EventSet::IN)?;
        self.accepting = true;
        io.add(self.timer.as_raw_fd(), TOKEN_TIMER, EventSet::IN)?;
        // Connections of before a pause are waited for by nobody yet.
        for id in self.table.ids() {
            if let Some(slot) = self.table.get(id) {
                slot.watched = None;
            }
            self.follow(id, io);
        }
        Ok(())
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        match queue {
            RECEIVE => {}
            TRANSMIT => self.transmit(io),
            _ => self.send_events(io),
        }
        self.receive(io);
    }

    fn event(&mut self, token: u32, events: EventSet, io: &mut Io) {
        match token {
            TOKEN_LISTENER => self.accept(io),
            TOKEN_TIMER => self.tick(io),
            _ => {
                if let Some(id) = Id::from_token(token, TOKEN_SLOTS) {
                    self.slot_ready(id, events, io);
                }
            }
        }
        self.receive(io);
    }

    fn reset(&mut self) {
        self.table.clear();
        self.ready.clear();
        self.resets.clear();
        self.transport_reset_due = false;
    }

    fn save(&self) -> State {
        State {
            config: self.config.clone(),
        }
    }
}

#[cfg(test)]
mod test_driver;

#[cfg(test)]
#[path = "vsock_tests.rs"]
mod tests;
