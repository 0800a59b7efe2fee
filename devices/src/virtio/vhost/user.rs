//! A device that a vhost-user back end serves, in another process: the device's worker only watches over it.
//!
//! A back end that goes away is looked for again, at first soon and then ever less often, until it is back or the device is
//! reset. The guest notices nothing but the wait: requests stay in the rings, and those that the old back end had taken
//! without an answer are found by the new one in the record of what is in flight, where both know such records. Without one
//! the rings go on after the last answer, which is right for back ends that answer in order.

use super::calls::{CallMetrics, Calls};
use super::profile::{Profile, TAG_LEN};
use super::session::{Hangup, Needs, Session, SessionError};
use crate::metrics::{Counter, Metrics};
use crate::virtio::config_space::ConfigSpace;
use crate::virtio::device::DeviceType;
use crate::virtio::queue;
use crate::virtio::worker::{Backend, Interrupter, Io};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use vhost::vhost_user::message::VhostUserInflight;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

/// Connects to the back end, each time anew.
pub type Connector = Box<dyn FnMut() -> io::Result<UnixStream> + Send>;

/// How long a back end may take to introduce itself when the device is made.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The wait before a lost back end is looked for, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Tokens of the connection, the back end's own requests and the timer.
const TOKEN_CONNECTION: u32 = 0;
const TOKEN_REQUESTS: u32 = 1;
const TOKEN_RETRY: u32 = 2;

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The kind of device and what the user asked for.
    pub profile: Profile,
}

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VhostUserError {
    /// The back end.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The back end does not introduce itself.
    #[error("the vhost-user back end does not answer within {0:?}")]
    Silent(Duration),
    /// The tag of a file system does not fit.
    #[error("the tag {0:?} has not 1 to {TAG_LEN} bytes")]
    Tag(String),
    /// An event descriptor or timer.
    #[error("cannot get an event descriptor")]
    Descriptor(#[source] io::Error),
}

/// The device's counters.
#[derive(Debug, Default, Serialize)]
pub struct VhostUserMetrics {
    /// Times that the connection broke.
    pub disconnects: Counter,
    /// Times that it was made again.
    pub reconnects: Counter,
    /// Attempts at that which failed.
    pub failed_reconnects: Counter,
    /// Changes of the configuration space by the back end.
    pub config_changes: Counter,
    /// What the back end signalled.
    #[serde(flatten)]
    pub calls: CallMetrics,
}

/// A device whose queues another process serves.
pub struct VhostUser {
    profile: Profile,
    connector: Connector,
    features: u64,
    ring_features: u64,
    space: Arc<ConfigSpace>,
    metrics: Arc<VhostUserMetrics>,
    calls: Calls,
    hangup: Arc<Hangup>,
    session: Option<Session>,
    in_flight: Option<(VhostUserInflight, File)>,
    /// The driver is another one than the back end knows.
    new_driver: bool,
    retry: TimerFd,
    delay: Duration,
    connected_at: Instant,
}

impl VhostUser {
    /// Makes a device of a back end, which has to be there.
    pub fn new(profile: Profile, mut connector: Connector) -> Result<Self, VhostUserError> {
        if let Profile::FileSystem { tag } = &profile
            && (tag.is_empty() || tag.len() > TAG_LEN)
        {
            return Err(VhostUserError::Tag(tag.clone()));
        }
        let hangup = Arc::<Hangup>::default();
        let stream = connector().map_err(SessionError::Connect)?;
        let session = open_in_time(stream, &needs(&profile, 0), &hangup, HANDSHAKE_TIMEOUT)?;
        let calls = Calls::new(profile.queue_sizes().len()).map_err(VhostUserError::Descriptor)?;
        Ok(Self {
            connector,
            features: session.features & profile.remote_features() | profile.own_features(),
            ring_features: session.features & queue::SPLIT_FEATURES,
            space: Arc::new(ConfigSpace::new(profile.config_space(&session.config))),
            metrics: Arc::default(),
            profile,
            calls,
            hangup,
            session: Some(session),
            in_flight: None,
            new_driver: false,
            retry: TimerFd::new().map_err(|error| VhostUserError::Descriptor(error.into()))?,
            delay: RETRY_MIN,
            connected_at: Instant::now(),
        })
    }

    /// Makes the device again as it was saved.
    pub fn restore(state: State, connector: Connector) -> Result<Self, VhostUserError> {
        Self::new(state.profile, connector)
    }

    /// Has the back end serve the queues; looks for it if it is not there.
    fn bring_up(&mut self, io: &mut Io) {
        let had = self.session.is_some();
        let mut result = self.try_bring_up(io);
        if had && !matches!(result, Ok(()) | Err(SessionError::PrivateMemory)) {
            // It may have gone away while nobody looked, and another one be there by now.
            self.session = None;
            self.metrics.disconnects.increment();
            result = self.try_bring_up(io);
        }
        match result {
            Ok(()) => {}
            // No other back end could make do with it.
            Err(error @ SessionError::PrivateMemory) => {
                tracing::error!(%error, "device could not be started");
                io.interrupt.needs_reset();
            }
            Err(error) => self.lose(&error, io),
        }
    }

    fn try_bring_up(&mut self, io: &mut Io) -> Result<(), SessionError> {
        let reconnected = self.session.is_none();
        if reconnected {
            let stream = (self.connector)().map_err(SessionError::Connect)?;
            let remote = io.features & (self.profile.remote_features() | queue::SPLIT_FEATURES);
            let session = Session::open(stream, &needs(&self.profile, remote), self.hangup.clone())?;
            self.metrics.reconnects.increment();
            self.connected_at = Instant::now();
            self.update_config(&session.config, io);
            self.session = Some(session);
        } else if self.new_driver
            && let Some(session) = &mut self.session
        {
            session.reset_device()?;
        }
        if std::mem::take(&mut self.new_driver) {
            self.in_flight = None;
        }
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        if reconnected {
            // The old back end may have died between an answer and its signal.
            let ready = io.queues.iter().filter(|queue| queue.is_ready());
            ready.for_each(|queue| io.interrupt.queue(queue.index()));
        }
        let ram = io.memory.memory();
        session.set_features(io.features)?;
        session.set_memory(&ram)?;
        session.share_in_flight(&mut self.in_flight, &io.queues)?;
        session.start(&io.queues, &self.calls, &ram)?;
        let watched = [
            (Some(session.fd()), TOKEN_CONNECTION),
            (session.requests_fd(), TOKEN_REQUESTS),
        ];
        for (fd, token) in watched {
            if let Some(fd) = fd {
                io.add(fd, token, EventSet::IN | EventSet::READ_HANG_UP)
                    .map_err(SessionError::Connect)?;
            }
        }
        Ok(())
    }

    /// The back end is gone, or of no use: notes where the queues stand, and looks for it again later.
    fn lose(&mut self, error: &SessionError, io: &mut Io) {
        if let Some(session) = self.session.take() {
            for fd in [Some(session.fd()), session.requests_fd()].into_iter().flatten() {
                // It may not have been waited for yet.
                let _ = io.remove(fd);
            }
            self.metrics.disconnects.increment();
            tracing::warn!(%error, device = ?self.profile.device_type(), "looking for the back end");
        } else {
            self.metrics.failed_reconnects.increment();
            tracing::debug!(%error, device = ?self.profile.device_type(), "no vhost-user back end yet");
        }
        for queue in &mut io.queues {
            queue.served_elsewhere(None);
        }
        // One that never stays is not looked for more often than one that never comes.
        if self.connected_at.elapsed() > RETRY_MAX {
            self.delay = RETRY_MIN;
        }
        if let Err(error) = self.retry.reset(self.delay, None) {
            tracing::error!(%error, "no timer to look for the vhost-user back end");
            io.interrupt.needs_reset();
        }
        self.delay = (self.delay * 2).min(RETRY_MAX);
    }

    fn update_config(&self, remote: &[u8], io: &Io) {
        let space = self.profile.config_space(remote);
        let mut old = vec![0; space.len()];
        self.space.read(0, &mut old);
        if old != space {
            self.space.update(0, &space);
            self.metrics.config_changes.increment();
            io.interrupt.config();
        }
    }

    fn take_request(&mut self, io: &mut Io) {
        let Some(session) = &mut self.session else { return };
        match session.take_request() {
            Ok(true) => {
                let config = session.config.clone();
                self.update_config(&config, io);
            }
            Ok(false) => {}
            Err(error) => self.lose(&error, io),
        }
    }
}

fn needs(profile: &Profile, features: u64) -> Needs {
    Needs {
        queues: profile.queue_sizes().len(),
        multi_queue: profile.is_multi_queue(),
        config_len: profile.remote_config_len(),
        features,
    }
}

/// Opens a session, but breaks it off when the back end takes too long. A thread does that, which lives no longer than the
/// call: there are no filters yet that forbid it.
fn open_in_time(
    stream: UnixStream,
    needs: &Needs,
    hangup: &Arc<Hangup>,
    timeout: Duration,
) -> Result<Session, VhostUserError> {
    let (opened, watch) = sync_channel::<()>(1);
    std::thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let timed_out = watch.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout);
            if timed_out {
                hangup.hang_up();
            }
            timed_out
        });
        let result = Session::open(stream, needs, hangup.clone());
        drop(opened);
        match (watchdog.join(), result) {
            (Ok(true), Err(_)) => Err(VhostUserError::Silent(timeout)),
            (_, result) => Ok(result?),
        }
    })
}

impl Backend for VhostUser {
    type State = State;

    fn device_type(&self) -> DeviceType {
        self.profile.device_type()
    }

    fn thread_name(&self) -> String {
        "virtio-vhost-user".to_owned()
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn ring_features(&self) -> u64 {
        self.ring_features
    }

    fn queue_sizes(&self) -> Vec<u16> {
        self.profile.queue_sizes()
    }

    fn config(&self) -> Arc<ConfigSpace> {
        self.space.clone()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        self.metrics.clone()
    }

    fn serves(&self, _queue: u16, _features: u64) -> bool {
        false
    }

    fn interrupter(&self) -> Option<Interrupter> {
        let hangup = self.hangup.clone();
        Some(Arc::new(move || hangup.hang_up()))
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        self.calls.register(io)?;
        io.add(self.retry.as_raw_fd(), TOKEN_RETRY, EventSet::IN)?;
        self.bring_up(io);
        Ok(())
    }

    fn queue_ready(&mut self, _queue: usize, _io: &mut Io) {}

    fn event(&mut self, token: u32, _events: EventSet, io: &mut Io) {
        match token {
            TOKEN_CONNECTION if self.session.is_some() => self.lose(&SessionError::Closed, io),
            TOKEN_REQUESTS => self.take_request(io),
            TOKEN_RETRY => {
                // It is readable, so this does not block.
                let _ = self.retry.wait();
                if self.session.is_none() {
                    self.bring_up(io);
                }
            }
            _ => self.calls.event(token, io, &self.metrics.calls),
        }
    }

    fn refresh(&mut self, io: &mut Io) {
        self.calls.refresh(io);
        let ram = io.memory.memory();
        let told = self.session.as_mut().map(|session| {
            session.set_memory(&ram)?;
            session.set_calls(&io.queues, &self.calls)
        });
        if let Some(Err(error)) = told {
            self.lose(&error, io);
        }
    }

    fn quiesce(&mut self, io: &mut Io) {
        for queue in io.queues.iter_mut().filter(|queue| queue.is_ready()) {
            let stopped = self.session.as_mut().map(|session| session.stop(queue));
            let next = match stopped {
                Some(Ok(next)) => Some(next),
                Some(Err(error)) => {
                    tracing::warn!(%error, "the vhost-user back end did not stop in order");
                    self.metrics.disconnects.increment();
                    self.session = None;
                    None
                }
                None => None,
            };
            queue.served_elsewhere(next);
        }
    }

    fn reset(&mut self) {
        self.new_driver = true;
    }

    fn save(&self) -> State {
        State {
            profile: self.profile.clone(),
        }
    }
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
