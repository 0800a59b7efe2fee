//! The console device with one port (virtio 1.3 §5.3): bytes both ways, and the size of the terminal.

use super::config_space::ConfigSpace;
use super::device::DeviceType;
use super::worker::{Backend, Io};
use crate::metrics::{Counter, Metrics};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Entries of each queue.
const QUEUE_SIZE: u16 = 64;
/// Queue indexes.
const RECEIVE: usize = 0;
/// Buffers moved before other events get a turn.
const BUDGET: usize = 64;
/// VIRTIO_CONSOLE_F_SIZE: the configuration space tells the terminal's size.
const FEATURE_SIZE: u32 = 0;

const TOKEN_INPUT: u32 = 0;
const TOKEN_OUTPUT: u32 = 1;
const TOKEN_RESIZE: u32 = 2;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Width of the terminal in characters.
    pub columns: u16,
    /// Height of the terminal in lines.
    pub rows: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            columns: 80,
            rows: 24,
        }
    }
}

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the user asked for, with the size as it was last.
    pub config: Config,
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct ConsoleMetrics {
    /// Bytes from the guest.
    pub bytes_out: Counter,
    /// Bytes from the guest that nobody took.
    pub bytes_lost: Counter,
    /// Bytes to the guest.
    pub bytes_in: Counter,
}

/// The terminal's size, shared between the device and whoever changes it.
struct Size {
    config: Mutex<Config>,
    space: Arc<ConfigSpace>,
    changed: EventFd,
}

/// Tells a console that its terminal has another size.
#[derive(Clone)]
pub struct Resizer(Arc<Size>);

impl Resizer {
    /// Sets the size and tells the driver.
    pub fn resize(&self, columns: u16, rows: u16) {
        *self.0.config.lock().unwrap_or_else(PoisonError::into_inner) = Config { columns, rows };
        self.0
            .space
            .update(0, [columns, rows].map(u16::to_le_bytes).as_flattened());
        // Fails only when the counter is full, and then the device has enough to do.
        let _ = self.0.changed.write(1);
    }
}

/// The console device.
pub struct Console {
    size: Arc<Size>,
    metrics: Arc<ConsoleMetrics>,
    input: Option<OwnedFd>,
    output: OwnedFd,
    /// The driver has no buffers for input.
    input_blocked: bool,
    /// The output takes nothing for the moment.
    output_blocked: bool,
}

impl Console {
    /// Makes a console that reads from `input` and writes to `output`: pipes, sockets, terminals, or a file to write to.
    /// Both become non-blocking.
    pub fn new(config: Config, input: Option<OwnedFd>, output: OwnedFd) -> io::Result<Self> {
        for fd in input.iter().chain([&output]) {
            set_nonblocking(fd.as_raw_fd())?;
        }
        // One port, so the maximum number of ports and the emergency write register that follow are zero.
        let mut space = vec![0; 12];
        space.splice(
            ..4,
            [config.columns, config.rows]
                .map(u16::to_le_bytes)
                .into_iter()
                .flatten(),
        );
        let size = Size {
            config: Mutex::new(config),
            space: Arc::new(ConfigSpace::new(space)),
            changed: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        };
        Ok(Self {
            size: Arc::new(size),
            metrics: Arc::default(),
            input,
            output,
            input_blocked: false,
            output_blocked: false,
        })
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State, input: Option<OwnedFd>, output: OwnedFd) -> io::Result<Self> {
        Self::new(state.config, input, output)
    }

    /// The handle by which the size can be changed while the device is at work.
    pub fn resizer(&self) -> Resizer {
        Resizer(self.size.clone())
    }

    fn watch_input(&self, io: &Io) {
        let Some(input) = &self.input else { return };
        // Taken out of the loop altogether: the end of the input would be signalled whatever is waited for.
        let result = match self.input_blocked {
            true => io.remove(input.as_raw_fd()),
            false => io.add(input.as_raw_fd(), TOKEN_INPUT, EventSet::IN),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "console input cannot be waited for");
        }
    }

    /// Input to the guest, one buffer at a time.
    fn receive(&mut self, io: &mut Io) {
        let ram = io.memory.memory();
        let Some(queue) = io.queues.get_mut(RECEIVE) else {
            return;
        };
        let was_blocked = std::mem::replace(&mut self.input_blocked, false);
        let mut ended = false;
        queue.disable_notification();
        for _ in 0..BUDGET {
            let Some(input) = &self.input else { break };
            let Some(chain) = queue.pop() else {
                if queue.enable_notification() {
                    queue.disable_notification();
                    continue;
                }
                self.input_blocked = true;
                break;
            };
            let Ok(iovecs) = chain.writable.iovecs(&ram, chain.writable.len()) else {
                queue.fail("console buffer outside of guest memory");
                break;
            };
            // SAFETY: `ram` keeps the memory that the vectors name mapped during the call.
            let count = unsafe { libc::readv(input.as_raw_fd(), iovecs.as_ptr(), iovecs.len() as i32) };
            match u32::try_from(count) {
                Ok(count) if count > 0 => {
                    self.metrics.bytes_in.add(u64::from(count));
                    queue.add_used(chain.head, count);
                }
                result => {
                    queue.undo_pop(chain.head);
                    let error = io::Error::last_os_error();
                    let later = matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    );
                    ended = result.is_ok() || !later;
                    break;
                }
            }
        }
        queue.signal();
        if ended && let Some(input) = self.input.take() {
            // Already gone from the event loop if its descriptor is.
            let _ = io.remove(input.as_raw_fd());
        } else if was_blocked != self.input_blocked {
            self.watch_input(io);
        }
    }

    /// Output of the guest.
    fn transmit(&mut self, index: usize, io: &mut Io) {
        let was_blocked = std::mem::replace(&mut self.output_blocked, false);
        let (output, metrics, blocked) = (&self.output, &self.metrics, &mut self.output_blocked);
        let ram = io.memory.memory();
        let Some(queue) = io.queues.get_mut(index) else {
            return;
        };
        let mut taken = 0;
        'more: loop {
            queue.disable_notification();
            while taken < BUDGET {
                let Some(chain) = queue.pop() else { break };
                taken += 1;
                let len = chain.readable.len();
                let iovecs = chain.readable.iovecs(&ram, len).unwrap_or_default();
                // SAFETY: `ram` keeps the memory that the vectors name mapped during the call.
                let count = unsafe { libc::writev(output.as_raw_fd(), iovecs.as_ptr(), iovecs.len() as i32) };
                if count < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
                    queue.undo_pop(chain.head);
                    *blocked = true;
                    break 'more;
                }
                // What a slow reader does not take of one buffer is lost: a console does not hold up the guest.
                let count = u64::try_from(count).unwrap_or(0);
                metrics.bytes_out.add(count);
                metrics.bytes_lost.add(len.saturating_sub(count));
                queue.add_used(chain.head, 0);
            }
            if taken >= BUDGET {
                queue.wake_again();
                break;
            }
            if !queue.enable_notification() {
                break;
            }
        }
        queue.signal();
        if was_blocked != self.output_blocked {
            let events = if self.output_blocked {
                EventSet::OUT
            } else {
                EventSet::empty()
            };
            if let Err(error) = io.modify(self.output.as_raw_fd(), TOKEN_OUTPUT, events) {
                tracing::debug!(%error, "console output cannot be waited for");
            }
        }
    }
}

fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: these calls have no pointers.
    let result = unsafe {
        match libc::fcntl(fd, libc::F_GETFL) {
            flags if flags >= 0 => libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK),
            error => error,
        }
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl Backend for Console {
    type State = State;

    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }

    fn features(&self) -> u64 {
        1 << FEATURE_SIZE
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE_SIZE; 2]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.size.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        self.input_blocked = false;
        self.output_blocked = false;
        io.add(self.size.changed.as_raw_fd(), TOKEN_RESIZE, EventSet::IN)?;
        if let Some(input) = &self.input {
            io.add(input.as_raw_fd(), TOKEN_INPUT, EventSet::IN)?;
        }
        match io.add(self.output.as_raw_fd(), TOKEN_OUTPUT, EventSet::empty()) {
            // A file is always ready and cannot be waited for.
            Err(error) if error.raw_os_error() != Some(libc::EPERM) => Err(error),
            _ => Ok(()),
        }
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        match queue {
            RECEIVE => self.receive(io),
            other => self.transmit(other, io),
        }
    }

    fn event(&mut self, token: u32, _events: EventSet, io: &mut Io) {
        match token {
            TOKEN_INPUT => self.receive(io),
            TOKEN_RESIZE => {
                // Fails when it is not signalled, and then there is nothing to clear.
                let _ = self.size.changed.read();
                io.interrupt.config();
            }
            _ if self.output_blocked => self.transmit(1, io),
            // Nobody reads the output any more, which an event loop tells for ever; output is counted as lost from now on.
            _ => drop(io.remove(self.output.as_raw_fd())),
        }
    }

    fn save(&self) -> State {
        State {
            config: *self.size.config.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
