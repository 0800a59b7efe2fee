//! One connection to the control socket: a request comes in, in pieces perhaps; a response goes out.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::http::{self, Request};
use crate::{Error, Result};

/// A client that has connected and not asked by then is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection whose request is not complete.
pub(super) struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    deadline: Instant,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            received: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Reads what is there; the request, once it is whole.
    pub(super) fn request(&mut self) -> Result<Option<Request>> {
        let mut chunk = [0; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Error::Protocol("the client hung up".to_owned())),
                Ok(n) => self.received.extend_from_slice(&chunk[..n]),
                Err(error) if super::would_block(&error) => return Ok(None),
                Err(error) => return Err(Error::system("read a request", error)),
            }
            if let Some(request) = http::parse_request(&self.received)? {
                return Ok(Some(request));
            }
        }
    }

    /// Answers. Responses are smaller than any socket buffer, so this does not block; a client that has gone gets none.
    pub(super) fn respond(mut self, status: u16, body: &[u8]) {
        drop(self.stream.write_all(&http::response(status, body)));
        drop(self.stream.shutdown(std::net::Shutdown::Write));
        // Closing with unread input would reset the connection, and the answer with it.
        let mut rest = [0; 16 * 1024];
        drop(self.stream.read(&mut rest));
    }
}
