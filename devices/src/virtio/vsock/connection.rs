//! One connection between a port of the guest and a unix socket of the host.
//!
//! Either side may end its direction and go on receiving; `exec` relies on that (standard input ends, output goes on).
//! What the guest sent before it closed is delivered even if the host reads slowly: the connection stays until then.

use super::credit::Credit;
use super::packet::{
    HEADER_LEN, HOST_CID, Header, Operation, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM,
};
use crate::memory::Ram;
use crate::virtio::buffer::Buffer;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use vmm_sys_util::epoll::EventSet;

/// How long the guest may take to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the guest may take to reset a connection that the host has closed. Linux waits 8 seconds itself.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The two ports, which together name a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The host has asked; the request is not sent yet.
    RequestDue,
    /// The guest has not answered yet.
    Requested,
    /// The guest has asked and the host has accepted; the guest does not know yet.
    ResponseDue,
    /// Data flows.
    Established,
    /// Nothing but a reset is left to be sent.
    ResetDue,
    /// The guest has gone; what it sent is still on its way to the host.
    Orphaned,
}

/// What became of an offered packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Produced {
    /// Bytes written to guest memory, data included.
    Packet {
        /// All bytes, with header.
        len: u32,
        /// Bytes of data.
        data: u32,
    },
    /// Nothing to send for now.
    Nothing,
    /// The driver's buffer cannot be used.
    BadBuffer,
}

/// A connection.
pub(super) struct Connection {
    pub(super) ports: Ports,
    guest_cid: u64,
    stream: UnixStream,
    phase: Phase,
    credit: Credit,
    /// From the guest, not taken by the host yet. The credit bounds it.
    backlog: VecDeque<u8>,
    /// What the guest has shut down.
    guest_shutdown: u32,
    /// The host sends no more.
    host_ended: bool,
    /// The host receives no more.
    host_deaf: bool,
    /// Both of these, by the kernel's word; what the host sent before may still be unread.
    hung_up: bool,
    /// What we have told the guest about the two.
    shutdown_told: u32,
    /// The stream had data when it was last looked at.
    readable: bool,
    /// The guest has no room, and was asked to tell when it has.
    credit_asked: bool,
    credit_answer_due: bool,
    deadline: Option<Instant>,
}

impl Connection {
    /// A host program asks for a port of the guest.
    pub(super) fn from_host(ports: Ports, guest_cid: u64, stream: UnixStream) -> Self {
        Self::new(
            ports,
            guest_cid,
            stream,
            Phase::RequestDue,
            Some(Instant::now() + REQUEST_TIMEOUT),
        )
    }

    /// The guest asks, and `stream` is connected to who listens.
    pub(super) fn from_guest(ports: Ports, guest_cid: u64, stream: UnixStream, request: &Header) -> Self {
        let mut connection = Self::new(ports, guest_cid, stream, Phase::ResponseDue, None);
        connection
            .credit
            .peer_told(request.buffer_size, request.forwarded);
        connection
    }

    fn new(
        ports: Ports,
        guest_cid: u64,
        stream: UnixStream,
        phase: Phase,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            ports,
            guest_cid,
            stream,
            phase,
            credit: Credit::default(),
            backlog: VecDeque::new(),
            guest_shutdown: 0,
            host_ended: false,
            host_deaf: false,
            hung_up: false,
            shutdown_told: 0,
            readable: false,
            credit_asked: false,
            credit_answer_due: false,
            deadline,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// What to wait for. Nothing for a stream that is closed on both sides: it would signal that for ever.
    pub(super) fn interest(&self) -> Option<EventSet> {
        if self.hung_up || self.phase == Phase::ResetDue {
            return None;
        }
        let mut events = EventSet::empty();
        events.set(
            EventSet::IN,
            self.wants_data() && !self.readable && self.credit.available() > 0,
        );
        events.set(EventSet::OUT, !self.backlog.is_empty());
        Some(events)
    }

    fn wants_data(&self) -> bool {
        self.phase == Phase::Established && !self.host_ended && self.guest_shutdown & SHUTDOWN_RECEIVE == 0
    }

    /// Whether there is something to send to the guest.
    pub(super) fn has_packet(&self) -> bool {
        match self.phase {
            Phase::RequestDue | Phase::ResponseDue | Phase::ResetDue => true,
            Phase::Requested | Phase::Orphaned => false,
            Phase::Established => {
                let blocked = self.credit.available() == 0;
                let data = self.wants_data() && self.readable && (!blocked || !self.credit_asked);
                data || self.shutdown_due() != 0 || self.credit_answer_due || self.credit.update_due()
            }
        }
    }

    /// Whether the connection is over and can be forgotten.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Orphaned && self.backlog.is_empty()
    }

    /// Whether the guest may use its ports again.
    pub(super) fn is_orphaned(&self) -> bool {
        self.phase == Phase::Orphaned
    }

    /// When something must have happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// It has not.
    pub(super) fn expire(&mut self) {
        self.abort();
    }

    /// Ends the connection by a reset.
    fn abort(&mut self) {
        self.phase = Phase::ResetDue;
        self.deadline = None;
        self.backlog.clear();
        // Fails if the host has closed it already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// What the guest still has to be told about the host's end.
    fn shutdown_due(&self) -> u32 {
        let mut flags = 0;
        // What the host sent before it ended comes first: `host_ended` is set when all of that has been read.
        if self.host_ended {
            flags |= SHUTDOWN_SEND;
        }
        if self.host_deaf {
            flags |= SHUTDOWN_RECEIVE;
        }
        if flags & !self.shutdown_told == 0 {
            0
        } else {
            flags
        }
    }

    /// The stream is ready.
    pub(super) fn stream_ready(&mut self, events: EventSet) {
        if events.contains(EventSet::OUT) {
            self.flush();
        }
        if events.intersects(EventSet::HANG_UP | EventSet::ERROR) {
            // Neither direction works any more. What was sent before is still to be read.
            self.hung_up = true;
            self.readable = true;
            self.host_is_deaf();
            match self.phase {
                Phase::Requested | Phase::RequestDue => self.abort(),
                Phase::Established if !self.wants_data() => self.host_ended = true,
                _ => {}
            }
        } else if events.contains(EventSet::IN) {
            self.readable = true;
        }
    }

    fn host_is_deaf(&mut self) {
        self.host_deaf = true;
        let lost = self.backlog.len() as u32;
        self.credit.forward(lost);
        self.backlog.clear();
        self.close_when_done();
    }

    /// A packet of the guest for this connection, with its data.
    pub(super) fn packet(&mut self, header: &Header, data: &mut Buffer, ram: &Ram) {
        self.credit.peer_told(header.buffer_size, header.forwarded);
        self.credit_asked = false;
        match (header.operation, self.phase) {
            (Some(Operation::Response), Phase::Requested) => self.accepted(),
            (Some(Operation::Reset), _) => {
                // After an orderly end, what the guest sent is still owed to the host.
                let owed = self.guest_shutdown & SHUTDOWN_SEND != 0;
                if !owed {
                    self.backlog.clear();
                }
                self.phase = Phase::Orphaned;
                self.deadline = None;
            }
            (Some(Operation::Data), Phase::Established) if self.guest_shutdown & SHUTDOWN_SEND == 0 => {
                self.data(header.len, data, ram);
            }
            (Some(Operation::Shutdown), Phase::Established) => {
                self.guest_shutdown |= header.flags & SHUTDOWN_BOTH;
                if self.guest_shutdown & SHUTDOWN_RECEIVE != 0 {
                    // Fails if the host has closed it already.
                    let _ = self.stream.shutdown(Shutdown::Read);
                }
                self.close_when_done();
            }
            (Some(Operation::CreditRequest), Phase::Established) => self.credit_answer_due = true,
            (Some(Operation::CreditUpdate), Phase::Established) => {}
            // The guest may not know yet that a reset is on its way.
            (_, Phase::ResetDue | Phase::Orphaned) => {}
            _ => self.abort(),
        }
    }

    fn accepted(&mut self) {
        self.phase = Phase::Established;
        self.deadline = None;
        // The socket is fresh, so the line fits.
        if self
            .stream
            .write_all(format!("OK {}\n", self.ports.host).as_bytes())
            .is_err()
        {
            self.abort();
        }
    }

    fn data(&mut self, len: u32, data: &mut Buffer, ram: &Ram) {
        if u64::from(len) > data.len() || !self.credit.receive(len) {
            return self.abort();
        }
        let mut bytes = vec![0; len as usize];
        if data.read(ram, &mut bytes).is_err() {
            return self.abort();
        }
        if self.host_deaf {
            return self.credit.forward(len);
        }
        let written = match self.backlog.is_empty() {
            true => self.write(&bytes),
            false => 0,
        };
        if !self.host_deaf {
            self.backlog.extend(bytes.get(written..).unwrap_or_default());
        }
    }

    /// Writes what the host takes now, and counts it.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    // All of it is lost, and counts as taken.
                    self.credit.forward((bytes.len() - done) as u32);
                    self.credit.forward(done as u32);
                    self.host_is_deaf();
                    return bytes.len();
                }
            }
        }
        self.credit.forward(done as u32);
        done
    }

    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.backlog);
        let (front, back) = bytes.as_slices();
        let mut done = self.write(front);
        if done == front.len() && !back.is_empty() {
            done += self.write(back);
        }
        if !self.host_deaf {
            self.backlog = bytes;
            self.backlog.drain(..done);
        }
        self.close_when_done();
    }

    /// When the guest sends no more and the host has everything, the host sees the end.
    fn close_when_done(&mut self) {
        if self.guest_shutdown & SHUTDOWN_SEND == 0 || !self.backlog.is_empty() {
            return;
        }
        match (self.guest_shutdown, self.phase) {
            (SHUTDOWN_BOTH, Phase::Established) => self.abort(),
            // Fails if the host has closed it already.
            _ => drop(self.stream.shutdown(Shutdown::Write)),
        }
    }

    /// Writes the next packet for the guest to `buffer`, which is large enough for a header at least.
    pub(super) fn produce(&mut self, buffer: &mut Buffer, ram: &Ram) -> Produced {
        let mut body = buffer.clone();
        if body.skip(HEADER_LEN).is_err() {
            return Produced::BadBuffer;
        }
        let (operation, flags, len) = match self.phase {
            Phase::RequestDue => {
                self.phase = Phase::Requested;
                (Operation::Request, 0, 0)
            }
            Phase::ResponseDue => {
                self.phase = Phase::Established;
                (Operation::Response, 0, 0)
            }
            Phase::ResetDue => {
                self.phase = Phase::Orphaned;
                (Operation::Reset, 0, 0)
            }
            Phase::Requested | Phase::Orphaned => return Produced::Nothing,
            Phase::Established => match self.next_established(&body, ram) {
                Ok(Some(next)) => next,
                Ok(None) => return Produced::Nothing,
                Err(()) => return Produced::BadBuffer,
            },
        };
        let (buffer_size, forwarded) = self.credit.tell();
        let header = Header {
            source_cid: HOST_CID,
            destination_cid: self.guest_cid,
            source_port: self.ports.host,
            destination_port: self.ports.guest,
            len,
            socket_type: TYPE_STREAM,
            operation: Some(operation),
            flags,
            buffer_size,
            forwarded,
        };
        match buffer.write(ram, &header.encode()) {
            Ok(()) => Produced::Packet {
                len: len + HEADER_LEN as u32,
                data: len,
            },
            Err(_) => Produced::BadBuffer,
        }
    }

    fn next_established(&mut self, body: &Buffer, ram: &Ram) -> Result<Option<(Operation, u32, u32)>, ()> {
        if self.wants_data() && self.readable {
            let room = self.credit.available();
            if room > 0 {
                let len = self.read(body, ram, room)?;
                if len > 0 {
                    self.credit.send(len);
                    return Ok(Some((Operation::Data, 0, len)));
                }
            } else if !self.credit_asked {
                self.credit_asked = true;
                return Ok(Some((Operation::CreditRequest, 0, 0)));
            }
        }
        let flags = self.shutdown_due();
        if flags != 0 {
            self.shutdown_told = flags;
            if flags == SHUTDOWN_BOTH {
                self.deadline = Some(Instant::now() + SHUTDOWN_TIMEOUT);
            }
            return Ok(Some((Operation::Shutdown, flags, 0)));
        }
        if std::mem::take(&mut self.credit_answer_due) || self.credit.update_due() {
            return Ok(Some((Operation::CreditUpdate, 0, 0)));
        }
        Ok(None)
    }

    /// Reads from the host straight into the guest's buffer. Zero if there is nothing, or nothing any more.
    fn read(&mut self, body: &Buffer, ram: &Ram, room: u32) -> Result<u32, ()> {
        let iovecs = body.iovecs(ram, u64::from(room)).map_err(|_| ())?;
        // A buffer of nothing but a header would look like the end of the stream.
        if iovecs.iter().all(|iovec| iovec.iov_len == 0) || iovecs.len() > libc::UIO_MAXIOV as usize {
            return Err(());
        }
        // SAFETY: `ram` keeps the memory that the vectors name mapped during the call.
        let count = unsafe { libc::readv(self.fd(), iovecs.as_ptr(), iovecs.len() as i32) };
        match u32::try_from(count) {
            Ok(0) => self.host_ended = true,
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error().kind() {
                // After a hang-up there is nothing to wait for.
                io::ErrorKind::WouldBlock if !self.hung_up => self.readable = false,
                io::ErrorKind::Interrupted => {}
                _ => {
                    self.host_ended = true;
                    self.host_is_deaf();
                }
            },
        }
        Ok(0)
    }
}

impl Drop for Connection {
    /// Reads what nobody wants any more. If a unix socket is closed with unread data, the other side gets an error where it
    /// should see the end of what it was sent.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let mut waste = [0; 4096];
        // The host cannot add to it any more, and a socket's buffer is finite.
        while matches!(self.stream.read(&mut waste), Ok(count) if count > 0) {}
    }
}
