//! The console device (virtio 1.3 §5.3): terminals of the guest, and channels between programs of the guest and of the host.
//!
//! A device with one port is a terminal. With more it has control queues, by which the driver learns of the ports, their names
//! and sizes, and each side learns whether the other has a port open. Nothing is lost between two programs that have it open;
//! what the guest writes while nobody is there on the host is.

mod config;
mod control;
mod port;

pub use config::{MAX_PORTS, PortConfig, Size, Update};
pub use port::{HostEnd, Link};

use super::config_space::ConfigSpace;
use super::device::DeviceType;
use super::update::{self, UpdateError, UpdateResult};
use super::worker::{Backend, Io};
use crate::metrics::{Counter, Metrics};
use control::Told;
use port::Port;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;

/// Entries of each queue.
const QUEUE_SIZE: u16 = 64;
/// Queue indexes of control messages.
const CONTROL_RECEIVE: usize = 2;
const CONTROL_TRANSMIT: usize = 3;
/// Buffers moved before other events get a turn.
const BUDGET: usize = 64;
/// VIRTIO_CONSOLE_F_SIZE: the configuration space tells the terminal's size.
const FEATURE_SIZE: u32 = 0;
/// VIRTIO_CONSOLE_F_MULTIPORT: there are control queues.
const FEATURE_MULTIPORT: u32 = 1;

/// Tokens are the port's number, doubled; the listener's has this bit.
const TOKEN_LISTENER: u32 = 1;

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The ports, with their sizes as they were last.
    pub ports: Vec<(PortConfig, Link)>,
}

/// The device's counters, of all ports together.
#[derive(Debug, Default, Serialize)]
pub struct ConsoleMetrics {
    /// Bytes from the guest.
    pub bytes_out: Counter,
    /// Bytes from the guest that nobody took.
    pub bytes_lost: Counter,
    /// Bytes to the guest.
    pub bytes_in: Counter,
    /// Clients that came.
    pub clients: Counter,
}

/// The console device.
pub struct Console {
    ports: Vec<Port>,
    space: Arc<ConfigSpace>,
    metrics: Arc<ConsoleMetrics>,
}

impl Console {
    /// Makes a console of these ports, [`MAX_PORTS`] at most. The first is a terminal, whatever it says.
    pub fn new(ports: impl IntoIterator<Item = (PortConfig, HostEnd)>) -> io::Result<Self> {
        let ports = ports.into_iter().map(|(config, end)| Port::new(config, end));
        let mut ports: Vec<_> = ports.take(MAX_PORTS).collect::<io::Result<_>>()?;
        let Some(first) = ports.first_mut() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        first.config.terminal = true;
        // The emergency write register at the end is not offered.
        let mut space = first.config.size.to_bytes().to_vec();
        space.extend((ports.len() as u32).to_le_bytes());
        space.extend([0; 4]);
        Ok(Self {
            ports,
            space: Arc::new(ConfigSpace::new(space)),
            metrics: Arc::default(),
        })
    }

    /// Makes the device again as it was saved, with ports that lead there. Clients do not come back with it.
    pub fn restore(state: State, ends: impl IntoIterator<Item = HostEnd>) -> io::Result<Self> {
        let (configs, links): (Vec<_>, Vec<_>) = state.ports.into_iter().unzip();
        let mut console = Self::new(configs.into_iter().zip(ends))?;
        for (port, link) in console.ports.iter_mut().zip(links) {
            port.link = link;
        }
        Ok(console)
    }

    /// Has one of the ports move bytes, and looks after what came of it.
    fn with_port(&mut self, index: usize, queue: usize, io: &mut Io) {
        let ram = io.memory.memory();
        if let (Some(port), Some(queue)) = (self.ports.get_mut(index), io.queues.get_mut(queue)) {
            match queue.index() % 2 {
                0 => port.receive(queue, &ram, &self.metrics),
                _ => port.transmit(queue, &ram, &self.metrics),
            }
            port.let_go();
        }
        self.admit(index, io);
        self.tell(io);
    }

    /// Takes the next client of a port.
    fn admit(&mut self, index: usize, io: &Io) {
        let Some(port) = self.ports.get_mut(index) else {
            return;
        };
        if (index == 0 || io.has_feature(FEATURE_MULTIPORT)) && port.accept() {
            self.metrics.clients.increment();
            watch(port, index, io);
        }
    }

    /// Tells the driver what it does not know yet, as far as it has buffers for that.
    fn tell(&mut self, io: &mut Io) {
        if !io.has_feature(FEATURE_MULTIPORT) {
            return;
        }
        let ram = io.memory.memory();
        'ports: for index in 0..self.ports.len() {
            while let Some(port) = self.ports.get_mut(index)
                && let Some(news) = port.news()
                && let Some(queue) = io.queues.get_mut(CONTROL_RECEIVE)
            {
                let Some(mut chain) = queue.pop() else {
                    if queue.enable_notification() {
                        continue;
                    }
                    break 'ports;
                };
                // `index` is at most MAX_PORTS. A buffer that is too short is the driver's loss.
                let message = news.to_bytes(index as u32);
                let written = chain.writable.write(&ram, &message).map_or(0, |()| message.len());
                queue.add_used(chain.head, written as u32);
                port.told();
                self.admit(index, io);
            }
        }
        if let Some(queue) = io.queues.get_mut(CONTROL_RECEIVE) {
            queue.signal();
        }
    }

    /// Does what the driver tells.
    fn listen(&mut self, io: &mut Io) {
        let mut messages = Vec::new();
        io.serve(CONTROL_TRANSMIT, BUDGET, |chain, ram| {
            messages.extend(Told::read(&mut chain.readable, ram));
            0
        });
        for message in messages {
            match message {
                Told::DeviceReady(true) => self.ports.iter_mut().for_each(Port::announce),
                Told::DeviceReady(false) => tracing::warn!("the guest cannot use the console's ports"),
                Told::PortReady(port, ready) => {
                    if let Some(port) = self.port(port) {
                        port.made(ready);
                    }
                }
                Told::PortOpen(number, open) => {
                    if let Some(port) = self.port(number) {
                        port.set_guest_open(open);
                        // Input waits for that. The number is that of a port.
                        let index = number as usize;
                        self.with_port(index, receive_queue(index), io);
                    }
                }
            }
        }
        self.tell(io);
    }

    fn port(&mut self, number: u32) -> Option<&mut Port> {
        self.ports.get_mut(usize::try_from(number).ok()?)
    }
}

/// Index of the port's queue of input; that of its output follows.
fn receive_queue(port: usize) -> usize {
    match port {
        0 => 0,
        port => 2 * port + 2,
    }
}

/// Waits for what happens to the port's stream.
fn watch(port: &mut Port, index: usize, io: &Io) {
    let Some(stream) = &port.stream else { return };
    let events = EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
    if let Err(error) = io.add(stream.as_raw_fd(), token(index), events) {
        tracing::warn!(%error, port = index, "a client of the console cannot be waited for");
        port.stream = None;
    }
}

fn token(port: usize) -> u32 {
    // There are MAX_PORTS at most.
    (port as u32) << 1
}

impl Backend for Console {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }

    fn features(&self) -> u64 {
        let several = u64::from(self.ports.len() > 1);
        1 << FEATURE_SIZE | several << FEATURE_MULTIPORT
    }

    fn queue_sizes(&self) -> Vec<u16> {
        match self.ports.len() {
            1 => vec![QUEUE_SIZE; 2],
            ports => vec![QUEUE_SIZE; 2 + 2 * ports],
        }
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        let ports = if io.has_feature(FEATURE_MULTIPORT) {
            self.ports.as_mut_slice()
        } else {
            self.ports.iter_mut().for_each(Port::open_always);
            // Linux looks at the size only when it has changed.
            io.interrupt.config();
            self.ports.get_mut(..1).unwrap_or_default()
        };
        for (index, port) in ports.iter_mut().enumerate() {
            watch(port, index, io);
            if let Some(listener) = &port.listener {
                let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
                io.add(listener.as_raw_fd(), token(index) | TOKEN_LISTENER, events)?;
            }
        }
        Ok(())
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        match queue {
            CONTROL_RECEIVE => self.tell(io),
            CONTROL_TRANSMIT => self.listen(io),
            0 | 1 => self.with_port(0, queue, io),
            queue => self.with_port(queue / 2 - 1, queue, io),
        }
    }

    fn event(&mut self, token: u32, events: EventSet, io: &mut Io) {
        let index = (token >> 1) as usize;
        if token & TOKEN_LISTENER != 0 {
            self.admit(index, io);
            return self.tell(io);
        }
        if let Some(port) = self.ports.get_mut(index) {
            port.hung_up |= events.intersects(EventSet::HANG_UP | EventSet::ERROR);
        }
        let queue = receive_queue(index);
        self.with_port(index, queue + 1, io);
        self.with_port(index, queue, io);
    }

    fn update(&mut self, update: Value, io: Option<&mut Io>) -> UpdateResult {
        let Update { port, columns, rows } = update::parse(update)?;
        if columns == 0 || rows == 0 {
            let problem = format!("a terminal has at least one column and row, not {columns} by {rows}");
            return Err(UpdateError::Invalid(problem));
        }
        let wanted = |known: &Port| {
            known.config.terminal && port.as_deref().is_none_or(|name| known.config.name == name)
        };
        let Some(index) = self.ports.iter().position(wanted) else {
            let port = port.unwrap_or_default();
            let problem = format!("there is no terminal {port:?}; leave `port` out for the first one");
            return Err(UpdateError::Refused(problem));
        };
        let size = Size { columns, rows };
        if let Some(port) = self.ports.get_mut(index) {
            port.config.size = size;
            port.resized();
        }
        if index == 0 {
            self.space.update(0, &size.to_bytes());
        }
        if let Some(io) = io {
            if index == 0 {
                io.interrupt.config();
            }
            self.tell(io);
        }
        Ok(json!({"columns": columns, "rows": rows}))
    }

    fn reset(&mut self) {
        self.ports.iter_mut().for_each(|port| port.link = Link::default());
    }

    fn save(&self) -> State {
        let ports = self.ports.iter();
        State {
            ports: ports
                .map(|port| (port.config.clone(), port.link.clone()))
                .collect(),
        }
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
