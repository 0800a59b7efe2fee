//! One connection to a vhost-user back end, from the handshake to the moment it breaks.

use super::calls::Calls;
use super::rings::{Addressing, memory_table, set_up};
use crate::memory::Ram;
use crate::virtio::queue::Queue;
use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, FrontendReqHandler, VhostUserFrontend, VhostUserFrontendReqHandler};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;

/// What we can make use of.
const PROTOCOL: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD)
    .union(VhostUserProtocolFeatures::RESET_DEVICE);

/// Feature bit by which a back end says that it has protocol features.
const PROTOCOL_BIT: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// Why a back end cannot be used, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// It cannot be reached.
    #[error("cannot connect to the vhost-user back end: {0}; start it first")]
    Connect(#[source] io::Error),
    /// It has closed the connection.
    #[error("the vhost-user back end has closed the connection")]
    Closed,
    /// The conversation broke, or the back end refused.
    #[error("the vhost-user back end does not go along: {0}")]
    Protocol(#[from] vhost::Error),
    /// It cannot do what the device needs.
    #[error("the vhost-user back end lacks {0}")]
    Lacks(String),
    /// Guest memory has no descriptors that could be sent.
    #[error("guest memory is private; a vhost-user back end needs \"memory\": {{ \"shared\": true }}")]
    PrivateMemory,
}

/// What a device needs of its back end.
pub(super) struct Needs {
    /// Number of queues.
    pub(super) queues: usize,
    /// Whether that is more than every back end has.
    pub(super) multi_queue: bool,
    /// Bytes of the configuration space.
    pub(super) config_len: u32,
    /// Features that the driver has accepted.
    pub(super) features: u64,
}

/// Remembers that the back end's configuration space has changed.
#[derive(Default)]
struct Changed(AtomicBool);

impl VhostUserFrontendReqHandler for Changed {
    fn handle_config_change(&self) -> io::Result<u64> {
        self.0.store(true, Ordering::Release);
        Ok(0)
    }
}

/// Breaks a connection off from another thread, so that nobody waits for an answer for ever.
#[derive(Default)]
pub(super) struct Hangup(Mutex<Vec<UnixStream>>);

impl Hangup {
    fn set(&self, streams: Vec<UnixStream>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = streams;
    }

    /// Whoever waits for the back end fails now.
    pub(super) fn hang_up(&self) {
        for stream in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It may be broken already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A connection.
pub(super) struct Session {
    front: Frontend,
    requests: Option<FrontendReqHandler<Changed>>,
    changed: Arc<Changed>,
    hangup: Arc<Hangup>,
    protocol: VhostUserProtocolFeatures,
    config_len: u32,
    /// All features that the back end offers.
    pub(super) features: u64,
    /// The configuration space as the back end has it.
    pub(super) config: Vec<u8>,
}

impl Session {
    /// Gets to know a back end.
    pub(super) fn open(stream: UnixStream, needs: &Needs, hangup: Arc<Hangup>) -> Result<Self, SessionError> {
        hangup.set(vec![stream.try_clone().map_err(SessionError::Connect)?]);
        let front = Frontend::from_stream(stream, needs.queues as u64);
        let features = front.get_features()?;
        let missing = (needs.features | 1 << VIRTIO_F_VERSION_1) & !features;
        if missing != 0 {
            return Err(SessionError::Lacks(format!("the features {missing:#x}")));
        }
        let mut session = Self {
            front,
            requests: None,
            changed: Arc::default(),
            hangup,
            protocol: VhostUserProtocolFeatures::empty(),
            config_len: needs.config_len,
            features,
            config: Vec::new(),
        };
        session.negotiate(needs)?;
        session.front.set_owner()?;
        session.open_requests()?;
        session.read_config()?;
        Ok(session)
    }

    fn negotiate(&mut self, needs: &Needs) -> Result<(), SessionError> {
        if self.features & PROTOCOL_BIT != 0 {
            self.protocol = self.front.get_protocol_features()? & PROTOCOL;
            self.front.set_protocol_features(self.protocol)?;
            if self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
                self.front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            }
        }
        // Not asked without need: some back ends of network cards count pairs here.
        if needs.multi_queue {
            if !self.protocol.contains(VhostUserProtocolFeatures::MQ) {
                return Err(SessionError::Lacks("the protocol feature MQ".to_owned()));
            }
            let most = self.front.get_queue_num()?;
            if most < needs.queues as u64 {
                let problem = format!("queues: it has {most}, and {} are asked for", needs.queues);
                return Err(SessionError::Lacks(problem));
            }
        }
        if needs.config_len > 0 && !self.protocol.contains(VhostUserProtocolFeatures::CONFIG) {
            return Err(SessionError::Lacks("the protocol feature CONFIG".to_owned()));
        }
        Ok(())
    }

    /// Gives the back end a way to say that its configuration space has changed.
    fn open_requests(&mut self) -> Result<(), SessionError> {
        if self.config_len == 0 || !self.protocol.contains(VhostUserProtocolFeatures::BACKEND_REQ) {
            return Ok(());
        }
        let mut requests = FrontendReqHandler::new(self.changed.clone()).map_err(vhost::Error::from)?;
        requests.set_reply_ack_flag(self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK));
        self.front.set_backend_request_fd(&requests.get_tx_raw_fd())?;
        // SAFETY: the handler keeps its descriptors open while it lives, which it does beyond this statement.
        let ours = unsafe { BorrowedFd::borrow_raw(requests.as_raw_fd()) };
        if let Ok(stream) = ours.try_clone_to_owned() {
            let mut streams = self.hangup.0.lock().unwrap_or_else(PoisonError::into_inner);
            streams.push(stream.into());
        }
        self.requests = Some(requests);
        Ok(())
    }

    fn read_config(&mut self) -> Result<(), SessionError> {
        if self.config_len > 0 {
            let empty = vec![0; self.config_len as usize];
            let flags = VhostUserConfigFlags::empty();
            let (_, config) = self.front.get_config(0, self.config_len, flags, &empty)?;
            self.config = config;
        }
        Ok(())
    }

    /// Readable when the connection breaks: the back end only answers, and answers are read where they are waited for.
    pub(super) fn fd(&self) -> RawFd {
        self.front.as_raw_fd()
    }

    /// Readable when the back end says something of its own accord.
    pub(super) fn requests_fd(&self) -> Option<RawFd> {
        self.requests.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Takes what the back end said. Returns whether the configuration space has changed.
    pub(super) fn take_request(&mut self) -> Result<bool, SessionError> {
        if let Some(requests) = &mut self.requests {
            requests.handle_request().map_err(vhost::Error::from)?;
        }
        let changed = self.changed.0.swap(false, Ordering::AcqRel);
        if changed {
            self.read_config()?;
        }
        Ok(changed)
    }

    /// Lets the back end forget the driver that was before, if it can.
    pub(super) fn reset_device(&mut self) -> Result<(), SessionError> {
        if self.protocol.contains(VhostUserProtocolFeatures::RESET_DEVICE) {
            self.front.reset_device()?;
        }
        Ok(())
    }

    /// Tells the back end what driver and device agreed on. Features that it does not have are none of its business.
    pub(super) fn set_features(&mut self, features: u64) -> Result<(), SessionError> {
        let features = (features | PROTOCOL_BIT) & self.features;
        Ok(self.front.set_features(features)?)
    }

    /// Shares guest memory.
    pub(super) fn set_memory(&mut self, ram: &Ram) -> Result<(), SessionError> {
        let table = memory_table(ram);
        let private = |region: &VhostUserMemoryRegionInfo| region.mmap_handle < 0;
        if table.iter().any(private) {
            return Err(SessionError::PrivateMemory);
        }
        self.front.set_mem_table(&table)?;
        Ok(())
    }

    /// Shares a record of what is in flight, so that the next back end can take over from one that died.
    pub(super) fn share_in_flight(
        &mut self,
        record: &mut Option<(VhostUserInflight, File)>,
        queues: &[Queue],
    ) -> Result<(), SessionError> {
        if !self.protocol.contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
            *record = None;
            return Ok(());
        }
        let (area, file) = match record.take() {
            Some(record) => record,
            None => {
                let size = queues.iter().map(|queue| queue.state().size).max();
                let wanted = VhostUserInflight::new(0, 0, queues.len() as u16, size.unwrap_or(0));
                self.front.get_inflight_fd(&wanted)?
            }
        };
        let (area, file) = record.insert((area, file));
        self.front.set_inflight_fd(area, file.as_raw_fd())?;
        Ok(())
    }

    /// Starts the queues that the driver has set up.
    pub(super) fn start(&mut self, queues: &[Queue], calls: &Calls, ram: &Ram) -> Result<(), SessionError> {
        let ready = || queues.iter().filter(|queue| queue.is_ready());
        for queue in ready() {
            let index = usize::from(queue.index());
            set_up(&self.front, index, queue, calls, ram, Addressing::Host)?;
        }
        for queue in ready().filter(|_| self.features & PROTOCOL_BIT != 0) {
            self.front.set_vring_enable(usize::from(queue.index()), true)?;
        }
        for queue in ready() {
            // What was added before the back end listened has nobody else who tells it.
            queue.wake_again();
        }
        Ok(())
    }

    /// Stops a queue. Returns the next entry of the available ring that the back end would have taken.
    pub(super) fn stop(&mut self, queue: &Queue) -> Result<u16, SessionError> {
        // Split rings have 16 bits here.
        Ok(self.front.get_vring_base(usize::from(queue.index()))? as u16)
    }

    /// Tells the back end to signal other descriptors.
    pub(super) fn set_calls(&mut self, queues: &[Queue], calls: &Calls) -> Result<(), SessionError> {
        for queue in queues.iter().filter(|queue| queue.is_ready()) {
            let index = usize::from(queue.index());
            if let Some(call) = calls.call(index) {
                self.front.set_vring_call(index, call)?;
            }
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hangup.set(Vec::new());
    }
}
