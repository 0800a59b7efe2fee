//! One port: its stream on the host, and bytes both ways.
//!
//! Readiness is waited for by the edge. So whoever stops moving bytes has seen the stream's or the queue's end, or wakes the
//! queue again.

use super::config::PortConfig;
use super::control::Tell;
use super::{BUDGET, ConsoleMetrics};
use crate::memory::Ram;
use crate::virtio::buffer::IoVecs;
use crate::virtio::queue::{Chain, Queue};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// Where a port leads to on the host.
pub enum HostEnd {
    /// To whoever has the other end of this stream, all the time.
    Stream(UnixStream),
    /// To those that connect here, one at a time.
    Listener(UnixListener),
}

/// What can be news to the driver, besides whether there is a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum News {
    Added,
    Console,
    Size,
    Name,
}

/// How far driver and device know each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// The driver has made the port.
    pub(super) ready: bool,
    /// A program of the guest has it open.
    guest_open: bool,
    /// The driver thinks that there is a client.
    known_open: bool,
    /// What the driver has still to be told, each at most once.
    untold: Vec<News>,
    /// Bytes of the next output buffer that the stream has taken already.
    sent: u64,
}

/// What came of an attempt to move the bytes of one buffer.
enum Moved {
    /// So many have moved.
    Some(u64),
    /// The stream is not ready.
    Later,
    /// There is no stream any more, or it has come to its end.
    Ended,
}

/// A port.
pub(super) struct Port {
    pub(super) config: PortConfig,
    pub(super) link: Link,
    pub(super) listener: Option<UnixListener>,
    pub(super) stream: Option<UnixStream>,
    /// The stream's other end sends no more.
    input_ended: bool,
    /// The stream's other end is gone; what it has sent may still be there to read.
    pub(super) hung_up: bool,
}

impl Port {
    /// A port that leads there.
    pub(super) fn new(config: PortConfig, end: HostEnd) -> io::Result<Self> {
        let (listener, stream) = match end {
            HostEnd::Stream(stream) => (None, Some(stream)),
            HostEnd::Listener(listener) => (Some(listener), None),
        };
        stream
            .iter()
            .try_for_each(|stream| stream.set_nonblocking(true))?;
        listener
            .iter()
            .try_for_each(|listener| listener.set_nonblocking(true))?;
        Ok(Self {
            config,
            link: Link::default(),
            listener,
            stream,
            input_ended: false,
            hung_up: false,
        })
    }

    /// The driver knows nothing of several ports, so this one is always open.
    pub(super) fn open_always(&mut self) {
        self.link.guest_open = true;
    }

    /// The driver knows of control messages, but of no port yet.
    pub(super) fn announce(&mut self) {
        self.link = Link {
            untold: vec![News::Added],
            ..Link::default()
        };
    }

    /// The driver has made the port, or could not.
    pub(super) fn made(&mut self, ready: bool) {
        let mut untold = Vec::new();
        if ready && self.config.terminal {
            untold.extend([News::Console, News::Size]);
        }
        if ready && !self.config.name.is_empty() {
            untold.push(News::Name);
        }
        self.link = Link {
            ready,
            untold,
            ..Link::default()
        };
    }

    /// A program of the guest has the port open, or none.
    pub(super) fn set_guest_open(&mut self, open: bool) {
        self.link.guest_open = open && self.link.ready;
    }

    /// The terminal's size is another one.
    pub(super) fn resized(&mut self) {
        if self.link.ready && !self.link.untold.contains(&News::Size) {
            self.link.untold.push(News::Size);
        }
    }

    /// What to tell the driver next.
    pub(super) fn news(&self) -> Option<Tell<'_>> {
        let open = self.stream.is_some();
        match self.link.untold.first() {
            Some(News::Added) => Some(Tell::Add),
            Some(News::Console) => Some(Tell::Console),
            Some(News::Size) => Some(Tell::Resize(self.config.size)),
            Some(News::Name) => Some(Tell::Name(&self.config.name)),
            None => (self.link.ready && self.link.known_open != open).then_some(Tell::Open(open)),
        }
    }

    /// The driver has been told.
    pub(super) fn told(&mut self) {
        match self.link.untold.is_empty() {
            true => self.link.known_open = !self.link.known_open,
            false => drop(self.link.untold.remove(0)),
        }
    }

    /// Takes a client if there is none and one waits. The driver learns of each before the next comes.
    pub(super) fn accept(&mut self) -> bool {
        if self.stream.is_some() || self.link.known_open {
            return false;
        }
        let accepted = self.listener.as_ref().and_then(|listener| listener.accept().ok());
        let client = accepted.map(|(client, _)| client);
        self.stream = client.filter(|client| client.set_nonblocking(true).is_ok());
        self.input_ended = false;
        self.hung_up = false;
        self.stream.is_some()
    }

    /// Lets go of a client that has left, once nobody will read what it has sent.
    pub(super) fn let_go(&mut self) {
        if self.hung_up && (self.input_ended || !self.link.guest_open) {
            self.stream = None;
            self.link.sent = 0;
        }
    }

    /// Input to the guest.
    pub(super) fn receive(&mut self, queue: &mut Queue, ram: &Ram, metrics: &ConsoleMetrics) {
        if !self.link.guest_open || self.stream.is_none() {
            return;
        }
        queue.disable_notification();
        for turn in 1..=BUDGET {
            if self.input_ended {
                break;
            }
            let Some(chain) = queue.pop() else {
                if !queue.enable_notification() {
                    break;
                }
                queue.disable_notification();
                continue;
            };
            if chain.writable.is_empty() {
                queue.add_used(chain.head, 0);
                continue;
            }
            let Ok(iovecs) = chain.writable.iovecs(ram, chain.writable.len()) else {
                queue.fail("console buffer outside of guest memory");
                break;
            };
            match self.move_bytes(&iovecs, read) {
                Moved::Some(count) => {
                    metrics.bytes_in.add(count);
                    // The kernel moves less than 2^31 bytes at once.
                    queue.add_used(chain.head, count as u32);
                }
                Moved::Later => {
                    queue.undo_pop(chain.head);
                    break;
                }
                Moved::Ended => {
                    queue.undo_pop(chain.head);
                    self.input_ended = true;
                }
            }
            if turn == BUDGET {
                queue.wake_again();
            }
        }
        queue.signal();
    }

    /// Output of the guest. What nobody is there to take is lost.
    pub(super) fn transmit(&mut self, queue: &mut Queue, ram: &Ram, metrics: &ConsoleMetrics) {
        let mut taken = 0;
        'more: loop {
            queue.disable_notification();
            while taken < BUDGET
                && let Some(mut chain) = queue.pop()
            {
                taken += 1;
                match self.write(&mut chain, ram) {
                    Moved::Some(count) => {
                        metrics.bytes_out.add(count);
                        if count < chain.readable.len() {
                            self.link.sent += count;
                            queue.undo_pop(chain.head);
                            continue;
                        }
                    }
                    Moved::Later => {
                        queue.undo_pop(chain.head);
                        break 'more;
                    }
                    Moved::Ended => metrics.bytes_lost.add(chain.readable.len()),
                }
                self.link.sent = 0;
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
    }

    /// Writes what is left of a buffer, and takes from the chain what was written before.
    fn write(&self, chain: &mut Chain, ram: &Ram) -> Moved {
        let skipped = usize::try_from(self.link.sent).map(|sent| chain.readable.skip(sent));
        // Too short if the driver has put another buffer in the place of the one that was begun.
        let iovecs = match skipped {
            Ok(Ok(())) => chain.readable.iovecs(ram, chain.readable.len()),
            _ => return Moved::Ended,
        };
        iovecs.map_or(Moved::Ended, |iovecs| self.move_bytes(&iovecs, send))
    }

    /// Has the kernel move bytes between the stream and guest memory, of which the caller has the map.
    fn move_bytes(&self, iovecs: &IoVecs, call: fn(&UnixStream, &IoVecs) -> isize) -> Moved {
        let Some(stream) = &self.stream else {
            return Moved::Ended;
        };
        loop {
            match u64::try_from(call(stream, iovecs)) {
                Ok(0) => return Moved::Ended,
                Ok(count) => return Moved::Some(count),
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return Moved::Later,
                    _ => return Moved::Ended,
                },
            }
        }
    }
}

fn read(stream: &UnixStream, iovecs: &IoVecs) -> isize {
    // SAFETY: the vectors name guest memory that stays mapped during the call, see `move_bytes`.
    unsafe { libc::readv(stream.as_raw_fd(), iovecs.as_ptr(), iovecs.len() as i32) }
}

/// Without the signal that a client which has gone would cause.
fn send(stream: &UnixStream, iovecs: &IoVecs) -> isize {
    // SAFETY: zeroes are a message without name, vectors and control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = iovecs.as_ptr().cast_mut();
    message.msg_iovlen = iovecs.len();
    // SAFETY: as above; what is sent is not written to.
    unsafe { libc::sendmsg(stream.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }
}
