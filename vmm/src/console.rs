//! The VM's console: what the guest prints goes to the log and to every attached client, what clients type goes to
//! the guest.
//!
//! The serial port writes on a vCPU's thread into [`Output`], a bounded buffer; everything else happens on the control
//! thread, so a slow client or disk never stops a vCPU for longer than it takes to empty that buffer.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use devices::legacy::serial::Serial;
use vmm_sys_util::epoll::{ControlOperation, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::console_log::ConsoleLog;
use crate::lock::lock;

/// Output that waits for the control thread. Beyond it the guest waits, too.
const OUTPUT_BYTES: usize = 64 << 10;
/// How long the guest waits at most for each further byte, and how much it may leave behind by not waiting longer.
/// The control thread is away for longer only while it pauses or ends the VM.
const OUTPUT_WAIT: Duration = Duration::from_millis(100);
const OUTPUT_HARD_BYTES: usize = 2 * OUTPUT_BYTES;
/// Output that waits for one client; a client that is slower is cut off.
const CLIENT_BYTES: usize = 1 << 20;
/// Input that waits for the guest. Beyond it clients wait.
const INPUT_BYTES: usize = 4 << 10;
/// Clients at a time.
const MAX_CLIENTS: usize = 16;

/// What the guest has printed and nobody has seen yet.
pub struct Output {
    bytes: Mutex<VecDeque<u8>>,
    drained: Condvar,
    event: EventFd,
}

impl Output {
    /// An empty buffer.
    pub fn new() -> io::Result<Arc<Self>> {
        let event = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        Ok(Arc::new(Self {
            bytes: Mutex::default(),
            drained: Condvar::new(),
            event,
        }))
    }

    /// Readable when there is something.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    fn take(&self) -> Vec<u8> {
        let _ = self.event.read();
        let taken = std::mem::take(&mut *lock(&self.bytes));
        self.drained.notify_all();
        taken.into()
    }
}

/// The serial port's end of [`Output`].
pub struct Sink(pub Arc<Output>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = lock(&self.0.bytes);
        if buffer.len() + bytes.len() > OUTPUT_BYTES {
            buffer = self
                .0
                .drained
                .wait_timeout(buffer, OUTPUT_WAIT)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if buffer.len() + bytes.len() > OUTPUT_HARD_BYTES {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let was_empty = buffer.is_empty();
        buffer.extend(bytes);
        drop(buffer);
        if was_empty {
            self.0.event.write(1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Client {
    stream: UnixStream,
    waiting: VecDeque<u8>,
    /// What the event loop waits for, once it knows the client.
    interest: Option<EventSet>,
}

impl Client {
    /// Writes what waits, as far as there is room. `false` means that the client is too slow.
    fn send(&mut self) -> bool {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match self.stream.write(first) {
                Ok(len) if len > 0 => drop(self.waiting.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.waiting.len() <= CLIENT_BYTES;
                }
                // It reads no more, but what it has typed before it went counts; the end of that is its own end.
                _ => self.waiting.clear(),
            }
        }
        true
    }
}

/// The control thread's end.
pub struct Console {
    output: Arc<Output>,
    log: Option<ConsoleLog>,
    listener: Option<UnixListener>,
    clients: BTreeMap<u32, Client>,
    next_client: u32,
    input: VecDeque<u8>,
    serial: Arc<Mutex<Serial>>,
    /// The virtio console's other end, if there is one.
    hvc: Option<UnixStream>,
    /// Set once the guest has used the virtio console: its users type there.
    hvc_is_used: bool,
}

impl Console {
    /// A console of this serial port. The listener must not block.
    #[must_use]
    pub fn new(
        output: Arc<Output>,
        serial: Arc<Mutex<Serial>>,
        hvc: Option<UnixStream>,
        log: Option<ConsoleLog>,
        listener: Option<UnixListener>,
    ) -> Self {
        Self {
            output,
            log,
            listener,
            clients: BTreeMap::new(),
            next_client: 0,
            input: VecDeque::new(),
            serial,
            hvc,
            hvc_is_used: false,
        }
    }

    /// Descriptor of the listening socket.
    #[must_use]
    pub fn listener_fd(&self) -> Option<RawFd> {
        self.listener.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Descriptor of the virtio console.
    #[must_use]
    pub fn hvc_fd(&self) -> Option<RawFd> {
        self.hvc.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Accepts one client. Returns its number.
    pub fn accept(&mut self) -> Option<u32> {
        let (stream, _) = self.listener.as_ref()?.accept().ok()?;
        if self.clients.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
            return None;
        }
        let number = self.next_client;
        self.next_client = self.next_client.wrapping_add(1);
        self.clients.insert(
            number,
            Client {
                stream,
                waiting: VecDeque::new(),
                interest: None,
            },
        );
        Some(number)
    }

    /// Tells the event loop what to wait for, as far as that has changed. Clients that are gone have closed their
    /// descriptors, which removes them from the loop.
    pub fn sync(&mut self, wait_for: &mut dyn FnMut(u32, RawFd, ControlOperation, EventSet)) {
        let takes_input = self.takes_input();
        for (number, client) in &mut self.clients {
            let mut interest = EventSet::empty();
            interest.set(EventSet::IN, takes_input);
            interest.set(EventSet::OUT, !client.waiting.is_empty());
            let operation = match client.interest {
                Some(known) if known == interest => continue,
                Some(_) => ControlOperation::Modify,
                None => ControlOperation::Add,
            };
            wait_for(*number, client.stream.as_raw_fd(), operation, interest);
            client.interest = Some(interest);
        }
    }

    /// Passes on what the serial port has printed.
    pub fn pump_serial(&mut self) {
        let bytes = self.output.take();
        self.broadcast(&bytes);
    }

    /// Passes on what the virtio console has printed. Returns whether there was anything.
    pub fn pump_hvc(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.hvc.as_mut().map(|hvc| hvc.read(&mut bytes)) {
            Some(Ok(len)) if len > 0 => {
                self.hvc_is_used = true;
                self.broadcast(&bytes[..len]);
                true
            }
            _ => false,
        }
    }

    fn broadcast(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.append(bytes);
        }
        for client in self.clients.values_mut() {
            client.waiting.extend(bytes);
        }
        self.clients.retain(|_, client| client.send());
    }

    /// There is room for more output to a client.
    pub fn write_to(&mut self, number: u32) {
        if self.clients.get_mut(&number).is_some_and(|client| !client.send()) {
            self.clients.remove(&number);
        }
    }

    fn takes_input(&self) -> bool {
        self.input.len() < INPUT_BYTES
    }

    /// Reads what a client has typed.
    pub fn read_from(&mut self, number: u32) {
        let room = INPUT_BYTES.saturating_sub(self.input.len());
        let Some(client) = self.clients.get_mut(&number).filter(|_| room > 0) else {
            return;
        };
        let mut bytes = [0; INPUT_BYTES];
        match client.stream.read(&mut bytes[..room]) {
            Ok(len) if len > 0 => {
                self.input.extend(&bytes[..len]);
                self.feed();
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            _ => drop(self.clients.remove(&number)),
        }
    }

    /// Gives the guest as much of the input as it takes.
    pub fn feed(&mut self) {
        if self.input.is_empty() {
            return;
        }
        let bytes = self.input.make_contiguous();
        let taken = match &mut self.hvc {
            Some(hvc) if self.hvc_is_used => hvc.write(bytes).unwrap_or(0),
            _ => {
                let mut serial = lock(&self.serial);
                let room = serial.room().min(bytes.len());
                if room == 0 {
                    0
                } else {
                    serial.enqueue(&bytes[..room])
                }
            }
        };
        self.input.drain(..taken.min(self.input.len()));
    }

    /// Passes on everything that is left, before the end.
    pub fn finish(&mut self) {
        let bytes = self.output.take();
        self.broadcast(&bytes);
        while self.pump_hvc() {}
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
