//! Threads with event loops for active devices, and [`Virtio`], which gives a device the phases of
//! [`VirtioDevice`](super::device::VirtioDevice) on top of them.
//!
//! A device implements [`Backend`]: it is called on its thread when the driver adds to a queue or when one of its own
//! descriptors is ready, and owns everything it touches. Between activations the backend rests in [`Virtio`].
//!
//! One thread serves a device with few queues. A device that spreads its work over many divides its queues into groups,
//! with a backend of the same type for each ([`Backend::take_siblings`], [`Backend::group`]); they share what they must
//! (metrics, limits, a disk) by means of their own. The first backend speaks for the device.

mod io;
mod phases;
mod thread;

pub use io::Io;
pub use phases::Virtio;

use super::config_space::ConfigSpace;
use super::device::DeviceType;
use super::queue;
use super::update::{UpdateError, UpdateResult};
use crate::metrics::Metrics;
use serde::Serialize;
use std::sync::Arc;
use vmm_sys_util::epoll::EventSet;

/// Called with the thread's name first thing in each worker thread, for seccomp filters and scheduling. An error
/// stops the device before it has seen anything of the guest.
pub type ThreadHook = Arc<dyn Fn(&str) -> std::io::Result<()> + Send + Sync>;

/// Ends what a backend waits for; see [`Backend::interrupter`].
pub type Interrupter = Arc<dyn Fn() + Send + Sync>;

/// A hook that does nothing.
pub fn no_hook() -> ThreadHook {
    Arc::new(|_| Ok(()))
}

/// What is special to a device.
pub trait Backend: Send + 'static {
    /// What a snapshot holds of it.
    type State: Serialize;
    /// The device's id.
    fn device_type(&self) -> DeviceType;
    /// The name of the device's threads, which says what they have to do with the host's kernel.
    fn thread_name(&self) -> String {
        format!("virtio-{:?}", self.device_type()).to_lowercase()
    }
    /// The device's own feature bits.
    fn features(&self) -> u64 {
        0
    }
    /// Features of the rings that whoever serves the queues knows.
    fn ring_features(&self) -> u64 {
        queue::RING_FEATURES
    }
    /// The greatest size of each queue.
    fn queue_sizes(&self) -> Vec<u16>;
    /// The configuration space, shared with the transport.
    fn config(&self) -> Arc<ConfigSpace>;
    /// The counters, shared with whoever asks.
    fn metrics(&self) -> Arc<dyn Metrics>;
    /// Backends of further groups of queues, each of which gets a thread of its own; this one has the first group. Called
    /// once, when the device is made.
    fn take_siblings(&mut self) -> Vec<Self>
    where
        Self: Sized,
    {
        Vec::new()
    }
    /// Which group serves this queue of the device: 0 is this backend's, n that of the n-th sibling. A group whose queues
    /// the driver leaves alone gets no thread, unless it is the first.
    fn group(&self, _queue: u16, _features: u64) -> usize {
        0
    }
    /// Whether this queue is served here, on the worker. Of others the worker takes no notifications; they are for whoever
    /// the backend gave their descriptors to.
    fn serves(&self, _queue: u16, _features: u64) -> bool {
        true
    }
    /// What ends a call in which the backend waits for someone else, from another thread. It is called when the worker does
    /// not stop in time, because the driver or the control socket waits for that.
    fn interrupter(&self) -> Option<Interrupter> {
        None
    }
    /// The worker is about to be started: start further threads of the device, which call the hook first. Called on the thread
    /// that activates the device, as workers must not start any.
    fn prepare(&mut self, _hook: &ThreadHook) -> std::io::Result<()> {
        Ok(())
    }
    /// The driver is ready (or the device is resumed): register own descriptors with `io`.
    fn start(&mut self, _io: &mut Io) -> std::io::Result<()> {
        Ok(())
    }
    /// The driver added to this queue of the group. Called once for each queue at the start, too. Not called again for
    /// what is left in the queue afterwards, unless the driver adds more or is asked for
    /// ([`Queue::enable_notification`](super::queue::Queue::enable_notification) and
    /// [`wake_again`](super::queue::Queue::wake_again) see to that).
    fn queue_ready(&mut self, queue: usize, io: &mut Io);
    /// A descriptor registered with this token is ready.
    fn event(&mut self, _token: u32, _events: EventSet, _io: &mut Io) {}
    /// Whether the host's kernel or another thread has requests that may touch guest memory. Their end is an event. A worker that
    /// shall stop waits for that, and only for that.
    fn is_busy(&self) -> bool {
        false
    }
    /// The driver has reset the device: give up what is in flight, as far as that can be, and tell the driver nothing more.
    fn abandon(&mut self, _io: &mut Io) {}
    /// Register nothing any more: the loop is about to end. Afterwards nothing touches guest memory.
    fn quiesce(&mut self, _io: &mut Io) {}
    /// Change something while the guest runs: the document came from outside of it ([`parse`](super::update::parse) reads
    /// it). `io` is missing while the driver has not activated the device; with it, the driver can be told. Called on the
    /// worker's thread, or on one of its own while there is none; descriptors must not be registered then (while
    /// paused, [`start`](Self::start) follows).
    fn update(&mut self, _update: serde_json::Value, _io: Option<&mut Io>) -> UpdateResult {
        Err(UpdateError::Unsupported)
    }
    /// The map of guest memory has changed, or the descriptor of a queue's interrupts.
    fn refresh(&mut self, _io: &mut Io) {}
    /// Forget the driver: it has reset the device.
    fn reset(&mut self) {}
    /// What a snapshot holds. Only called while the worker rests.
    fn save(&self) -> Self::State;
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;

#[cfg(test)]
mod stop_tests;
