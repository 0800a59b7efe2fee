//! The console: the container's terminal, a bounded log of what it printed, and the clients that watch and type.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;

use super::{Watched, log, watch, would_block};
use crate::sys::{done, owned};
use crate::{Error, Result};

/// When the log is longer, it becomes `console.log.old` and a new one begins.
const MAX_LOG: u64 = 1 << 20;
/// A client that reads so slowly is cut off: the container must not wait for it.
const MAX_BACKLOG: usize = 256 * 1024;
/// Typed ahead of a container that does not read; more stays with the clients.
const MAX_TYPED: usize = 16 * 1024;
const MAX_CLIENTS: usize = 16;
/// Between two attempts to open a terminal that was hung up.
const RETRY: Duration = Duration::from_millis(100);
/// At most this many pieces at a time, so that a container that prints without end does not starve the control socket.
const BURST: usize = 16;

/// The terminal's master side and everybody on it.
pub(super) struct Console {
    master: File,
    /// Keeps the terminal alive while no process inside has it open.
    _slave: Option<OwnedFd>,
    retry_at: Option<Instant>,
    listener: UnixListener,
    clients: Vec<Client>,
    typed: VecDeque<u8>,
    log: Log,
}

struct Client {
    stream: UnixStream,
    backlog: VecDeque<u8>,
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

impl Console {
    pub(super) fn new(master: OwnedFd, listener: UnixListener, log: &Path) -> Result<Self> {
        let nonblocking = fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        nonblocking.map_err(|e| Error::system("set up the console", e))?;
        let master = File::from(master);
        let slave = open_slave(&master).ok();
        Ok(Self {
            master,
            _slave: slave,
            retry_at: None,
            listener,
            clients: Vec::new(),
            typed: VecDeque::new(),
            log: Log::open(log)?,
        })
    }

    /// Adds what to wait for: the terminal, new clients, the clients.
    pub(super) fn watch<'a>(&'a self, list: &mut Vec<Watched<'a>>) {
        let mut flags = if self.retry_at.is_some() {
            PollFlags::empty()
        } else {
            PollFlags::POLLIN
        };
        if !self.typed.is_empty() && self.retry_at.is_none() {
            flags |= PollFlags::POLLOUT;
        }
        // poll(2) reports a hang-up even when nothing is asked for; while waiting to reopen, watch something quiet instead.
        let terminal = if self.retry_at.is_some() {
            self.listener.as_fd()
        } else {
            self.master.as_fd()
        };
        list.push(watch(terminal, flags));
        let room = self.clients.len() < MAX_CLIENTS;
        list.push(watch(
            self.listener.as_fd(),
            if room {
                PollFlags::POLLIN
            } else {
                PollFlags::empty()
            },
        ));
        for client in &self.clients {
            let mut flags = PollFlags::empty();
            if self.typed.len() < MAX_TYPED {
                flags |= PollFlags::POLLIN;
            }
            if !client.backlog.is_empty() {
                flags |= PollFlags::POLLOUT;
            }
            list.push(watch(client.stream.as_fd(), flags));
        }
    }

    /// Acts on the answers, in the order of [`Self::watch`].
    pub(super) fn handle(&mut self, events: &[PollFlags]) {
        let happened = |at: usize| events.get(at).copied().unwrap_or(PollFlags::empty());
        // The clients first: the list has grown when a new one is accepted.
        for at in (0..self.clients.len()).rev() {
            let events = happened(at + 2);
            let mut alive = true;
            if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                alive = self.read_client(at);
            }
            if alive && events.contains(PollFlags::POLLOUT) {
                alive = self.clients[at].flush();
            }
            if !alive {
                self.clients.swap_remove(at);
            }
        }
        if self.retry_at.is_some_and(|at| Instant::now() >= at) {
            self.reopen();
        } else if self.retry_at.is_none() {
            if happened(0).intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                self.read_terminal(BURST);
            }
            self.write_terminal();
        }
        if happened(1).contains(PollFlags::POLLIN) {
            self.accept();
        }
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Takes what the container printed last.
    pub(super) fn drain(&mut self) {
        self.read_terminal(usize::MAX);
        for client in &mut self.clients {
            client.flush();
        }
    }

    /// Sets the terminal's size; programs are told by SIGWINCH.
    pub(super) fn resize(&self, width: u16, height: u16) -> Result<()> {
        let size = libc::winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: the request reads a `winsize`.
        done(unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into())
            .map_err(|e| Error::system("set the console's size", e))
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if stream.set_nonblocking(true).is_ok() {
            self.clients.push(Client {
                stream,
                backlog: VecDeque::new(),
            });
        }
    }

    /// False when the client has gone.
    fn read_client(&mut self, at: usize) -> bool {
        let mut chunk = [0; 4096];
        match self.clients[at].stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(n) => {
                self.typed.extend(&chunk[..n]);
                true
            }
            Err(error) => would_block(&error),
        }
    }

    fn read_terminal(&mut self, pieces: usize) {
        let mut chunk = [0; 4096];
        for _ in 0..pieces {
            match self.master.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    self.log.append(&chunk[..n]);
                    self.clients.retain_mut(|client| client.send(&chunk[..n]));
                }
                Err(error) if would_block(&error) => return,
                Err(_) => {
                    // EIO: a process has hung the terminal up (vhangup(2), as getty does): everybody must open it again.
                    self._slave = None;
                    self.retry_at = Some(Instant::now());
                    return;
                }
            }
        }
    }

    fn reopen(&mut self) {
        match open_slave(&self.master) {
            Ok(slave) => {
                self._slave = Some(slave);
                self.retry_at = None;
            }
            Err(_) => self.retry_at = Some(Instant::now() + RETRY),
        }
    }

    fn write_terminal(&mut self) {
        while !self.typed.is_empty() {
            match self.master.write(self.typed.as_slices().0) {
                Ok(n) => drop(self.typed.drain(..n)),
                Err(_) => return,
            }
        }
    }
}

/// The other side of a terminal, whatever its name and wherever it is mounted.
fn open_slave(master: &File) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes flags and returns a descriptor.
    owned(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) }.into())
}

impl Client {
    /// Queues output; false when the client is too slow or gone.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.backlog.extend(bytes);
        self.flush() && self.backlog.len() <= MAX_BACKLOG
    }

    fn flush(&mut self) -> bool {
        while !self.backlog.is_empty() {
            match self.stream.write(self.backlog.as_slices().0) {
                Ok(n) => drop(self.backlog.drain(..n)),
                Err(error) => return would_block(&error),
            }
        }
        true
    }
}

impl Log {
    fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        let file = file.map_err(|e| Error::file("open", path, e))?;
        let length = file.metadata().map(|data| data.len()).unwrap_or_default();
        Ok(Self {
            path: path.to_path_buf(),
            file: Some(file),
            length,
        })
    }

    /// A log that cannot be written must not stop the container; the first failure is reported.
    fn append(&mut self, bytes: &[u8]) {
        if self.length > MAX_LOG {
            self.rotate();
        }
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(bytes) {
            log(&format!("{}: {error}", self.path.display()));
            self.file = None;
        }
        self.length += bytes.len() as u64;
    }

    fn rotate(&mut self) {
        let mut old = self.path.clone().into_os_string();
        old.push(".old");
        drop(fs::rename(&self.path, old));
        self.file = File::options().create(true).append(true).open(&self.path).ok();
        self.length = 0;
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
