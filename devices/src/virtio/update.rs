//! Changes to a device while the guest runs: a new size, another limit, the link's state, a balloon's target.
//!
//! Whoever changes a device gives [`VirtioDevice::update`](super::device::VirtioDevice::update) a JSON document of the
//! device's own type and gets a [`Pending`] answer. While the device is active the document travels in a [`Mailbox`] to
//! its worker, where [`Backend::update`](super::worker::Backend::update) takes it with everything at hand; otherwise the
//! resting backend takes it at once. Nobody needs a lock that a worker holds.

use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Updates that wait for one worker. The control socket has one at a time; more have run into their time limit.
const MAX_WAITING: usize = 16;

/// Why an update was not made.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// This kind of device has nothing that can be changed.
    #[error("this device has nothing that can be changed while the guest runs")]
    Unsupported,
    /// The document is not one of this device.
    #[error("the update is not valid: {0}")]
    Invalid(String),
    /// The document is right, but cannot be followed in the state that the device is in.
    #[error("{0}")]
    Refused(String),
    /// The host could not do it.
    #[error("cannot {what}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The device does not answer: it is busy, or its worker has died.
    #[error("the device does not answer; it may wait for its disk or network, try again")]
    NoAnswer,
}

/// What an update comes to: a document that says what holds now, often `null`.
pub type UpdateResult = Result<Value, UpdateError>;

/// Reads an update as the device's own type, which should refuse unknown fields.
pub fn parse<T: DeserializeOwned>(update: Value) -> Result<T, UpdateError> {
    serde_json::from_value(update).map_err(|error| UpdateError::Invalid(error.to_string()))
}

/// The error for a field that is wrong.
pub(super) fn invalid<E: Display>(field: &str) -> impl FnOnce(E) -> UpdateError {
    move |problem| UpdateError::Invalid(format!("{field}: {problem}"))
}

/// An answer that may still be on its way.
pub struct Pending(Receiver<UpdateResult>);

impl Pending {
    /// An answer to come, and where it goes, which has room for it.
    pub(super) fn new() -> (SyncSender<UpdateResult>, Self) {
        let (sender, receiver) = sync_channel(1);
        (sender, Self(receiver))
    }

    /// An answer that is known.
    pub fn now(result: UpdateResult) -> Self {
        let (sender, pending) = Self::new();
        let _ = sender.try_send(result);
        pending
    }

    /// Waits for the answer. An update whose time is up may still be made later.
    pub fn wait(self, timeout: Duration) -> UpdateResult {
        match self.0.recv_timeout(timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(UpdateError::NoAnswer),
        }
    }
}

/// An update and where its answer goes.
pub(super) struct Letter {
    update: Value,
    reply: SyncSender<UpdateResult>,
}

impl Letter {
    /// Has the update made, and sends the answer to whoever still waits for it.
    pub(super) fn answer(self, make: impl FnOnce(Value) -> UpdateResult) {
        let _ = self.reply.try_send(make(self.update));
    }
}

/// What becomes of a stopping worker's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// They are finished first: the driver goes on with the device later.
    Finish,
    /// They are given up: the driver has reset the device.
    Abandon,
}

/// What a worker finds in its mailbox.
#[derive(Default)]
pub(super) struct Post {
    /// Updates, in order.
    pub(super) letters: VecDeque<Letter>,
    /// Something of what the activation gave has changed.
    pub(super) refresh: bool,
    /// The worker shall stop.
    pub(super) stop: Option<Stop>,
    /// It shall not stop after all.
    pub(super) go_on: bool,
}

#[derive(Default)]
struct Inner {
    post: Post,
    closed: bool,
}

/// What its device tells a worker.
pub(super) struct Mailbox {
    event: EventFd,
    inner: Mutex<Inner>,
    closed: Condvar,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            inner: Mutex::default(),
            closed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signalled when there is something to [`collect`](Self::collect).
    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }

    fn wake(&self) {
        // Fails only if the counter is full, and then it is signalled already.
        let _ = self.event.write(1);
    }

    /// Tells the worker to stop once it has read what came before.
    pub(super) fn stop(&self, how: Stop) {
        let mut inner = self.lock();
        inner.post.stop = Some(how);
        inner.post.go_on = false;
        drop(inner);
        self.wake();
    }

    /// Tells the worker that it need not stop after all. Returns whether that was in time.
    pub(super) fn go_on(&self) -> bool {
        let mut inner = self.lock();
        inner.post.stop = None;
        inner.post.go_on = true;
        let in_time = !inner.closed;
        drop(inner);
        self.wake();
        in_time
    }

    /// Tells the worker that something of what the activation gave has changed.
    pub(super) fn refresh(&self) {
        self.lock().post.refresh = true;
        self.wake();
    }

    /// Gives the worker an update.
    pub(super) fn post(&self, update: Value) -> Pending {
        let mut inner = self.lock();
        if inner.closed || inner.post.letters.len() >= MAX_WAITING {
            return Pending::now(Err(UpdateError::NoAnswer));
        }
        let (reply, pending) = Pending::new();
        inner.post.letters.push_back(Letter { update, reply });
        drop(inner);
        self.wake();
        pending
    }

    /// Worker: takes what has come.
    pub(super) fn collect(&self) -> Post {
        // Fails only when it is not signalled.
        let _ = self.event.read();
        std::mem::take(&mut self.lock().post)
    }

    /// Worker: reads no more, unless it shall go on after all, which is what it returns. Whoever waits for an answer learns
    /// that there is none.
    pub(super) fn close_unless_wanted(&self) -> bool {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.post.go_on) {
            return true;
        }
        inner.closed = true;
        inner.post.letters.clear();
        self.closed.notify_all();
        false
    }

    /// Worker: reads no more, whatever comes.
    pub(super) fn close(&self) {
        while self.close_unless_wanted() {}
    }

    /// Waits until the worker reads no more. Returns whether it came to that.
    pub(super) fn wait_until_closed(&self, timeout: Duration) -> bool {
        let waited = self
            .closed
            .wait_timeout_while(self.lock(), timeout, |inner| !inner.closed);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.closed
    }
}
