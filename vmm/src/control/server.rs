//! Connections of the control socket. They never block the control thread: requests are collected as they arrive and
//! responses are sent as there is room.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use super::files::{Files, MAX_FILES};
use super::http::{self, Parsed, Request, Response};

/// Connections at a time. The daemon uses one or two.
const MAX_CONNECTIONS: usize = 32;
/// How long a client may take to send its request and to read the answer. [`Client`](crate::client::Client) waits as long.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Answers a complete request and may take its descriptors.
pub type Handle<'a> = &'a mut dyn FnMut(&Request, &mut Files) -> Response;

struct Connection {
    stream: UnixStream,
    since: Instant,
    inbox: Vec<u8>,
    files: Files,
    outbox: Vec<u8>,
    sent: usize,
}

/// The listening socket and its connections.
pub struct Server {
    listener: UnixListener,
    connections: BTreeMap<u32, Connection>,
    next: u32,
}

/// What the event loop does next with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait for more of the request.
    Read,
    /// Wait for room for more of the response.
    Write,
    /// The connection is gone.
    Close,
}

impl Server {
    /// Serves on a socket that listens.
    pub fn new(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            connections: BTreeMap::new(),
            next: 0,
        })
    }

    /// Descriptor of the listening socket.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// Accepts one connection. Returns its number and descriptor. When there are too many, the oldest goes: clients that
    /// hang must not keep others out.
    pub fn accept(&mut self) -> Option<(u32, RawFd)> {
        let accepted = self.listener.accept();
        // Without a descriptor for the new one, too; it is accepted in the next round then.
        let full = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
        if self.connections.len() >= MAX_CONNECTIONS || accepted.as_ref().is_err_and(full) {
            self.connections.pop_first();
        }
        let (stream, _) = accepted.ok()?;
        stream.set_nonblocking(true).ok()?;
        let (number, fd) = (self.next, stream.as_raw_fd());
        self.next = self.next.wrapping_add(1);
        self.connections.insert(
            number,
            Connection {
                stream,
                since: Instant::now(),
                inbox: Vec::new(),
                files: Files::default(),
                outbox: Vec::new(),
                sent: 0,
            },
        );
        Some((number, fd))
    }

    /// The client that came first, and how much time it has left.
    #[must_use]
    pub fn oldest(&self, now: Instant) -> Option<(u32, Duration)> {
        let (number, connection) = self.connections.first_key_value()?;
        let left = (connection.since + TIME_LIMIT).saturating_duration_since(now);
        Some((*number, left))
    }

    /// Closes a connection.
    pub fn forget(&mut self, number: u32) {
        self.connections.remove(&number);
    }

    /// Descriptor of a connection.
    #[must_use]
    pub fn connection_fd(&self, number: u32) -> Option<RawFd> {
        self.connections
            .get(&number)
            .map(|connection| connection.stream.as_raw_fd())
    }

    /// Reads or writes as far as possible; `handle` answers a complete request.
    pub fn serve(&mut self, number: u32, handle: Handle<'_>) -> Next {
        let Some(connection) = self.connections.get_mut(&number) else {
            return Next::Close;
        };
        let next = connection.serve(handle);
        if next == Next::Close {
            self.connections.remove(&number);
        }
        next
    }

    /// Sends what is left of responses, without waiting for clients that do not read.
    pub fn finish(&mut self) {
        for connection in self.connections.values_mut() {
            connection.send();
        }
    }
}

impl Connection {
    fn serve(&mut self, handle: Handle<'_>) -> Next {
        let mut bytes = [0; 4096];
        while self.outbox.is_empty() {
            match self.files.read(&self.stream, &mut bytes) {
                Ok(0) => return Next::Close,
                Ok(len) => self.inbox.extend_from_slice(bytes.get(..len).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let message = format!("{error}; a request may bring {MAX_FILES}");
                    self.outbox = Response::error(400, message).encode();
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Read,
                Err(_) => return Next::Close,
            }
            let response = match http::parse(&self.inbox) {
                Parsed::Partial => continue,
                Parsed::Request(request) => handle(&request, &mut self.files),
                Parsed::Refused(response) => response,
            };
            self.files = Files::default();
            self.outbox = response.encode();
        }
        self.send()
    }

    fn send(&mut self) -> Next {
        while let Some(rest) = self.outbox.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Next::Close,
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Write,
                Err(_) => return Next::Close,
            }
        }
        // One request for each connection.
        Next::Close
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
