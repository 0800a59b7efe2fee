//! One pair of queues, on one queue of the host's link: frames move by one system call each, without a copy in this process.
//!
//! A pair belongs to one thread. It is told by an event descriptor when something of what the pairs have in common has
//! changed.

use super::features::{self, MRG_RXBUF};
use super::header::{HEADER_LEN, Header, MAX_FRAME};
use super::metrics::PairMetrics;
use super::receive::{Outcome, Receiver};
use super::shared::{Share, Shared};
use super::tap::Tap;
use super::{BUDGET, RECEIVE, TRANSMIT};
use crate::memory::Ram;
use crate::virtio::queue::Chain;
use crate::virtio::rate_limiter::RateLimiter;
use crate::virtio::worker::Io;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use vm_memory::GuestAddressSpace;
use vmm_sys_util::epoll::EventSet;

/// Tokens of a pair's descriptors.
const TOKEN_TAP: u32 = 0;
const TOKEN_WAKE: u32 = 1;
const TOKEN_RECEIVE_LIMITER: u32 = 2;
const TOKEN_TRANSMIT_LIMITER: u32 = 3;

/// A pair of queues at work.
pub(super) struct Pair {
    index: u16,
    shared: Arc<Shared>,
    metrics: Arc<PairMetrics>,
    receiver: Receiver,
    share: Share,
    /// The driver uses this pair.
    active: bool,
    /// The driver has no receive buffers, or has had what it may; a notification or the timer wakes us.
    receive_blocked: bool,
    /// The host takes no frames for the moment.
    transmit_blocked: bool,
    /// What is waited for on the tap; nothing if the tap is not waited for.
    watched: Option<EventSet>,
    /// The link was deleted.
    gone: bool,
}

impl Pair {
    pub(super) fn new(index: u16, shared: Arc<Shared>, metrics: Arc<PairMetrics>) -> Self {
        Self {
            index,
            shared,
            metrics,
            receiver: Receiver::default(),
            share: Share::default(),
            active: false,
            receive_blocked: false,
            transmit_blocked: false,
            watched: None,
            gone: false,
        }
    }

    /// Number of the pair within the card.
    pub(super) fn index(&self) -> u16 {
        self.index
    }

    /// The driver is ready, or the device goes on.
    pub(super) fn start(&mut self, mtu: u16, io: &mut Io) -> io::Result<()> {
        self.receiver.mergeable = io.has_feature(MRG_RXBUF);
        self.receiver.max_frame = features::max_frame(io.features, mtu);
        self.receive_blocked = false;
        self.transmit_blocked = false;
        self.watched = None;
        self.gone = false;
        self.share = Share::default();
        let shared = self.shared.clone();
        if let Some(wake) = shared.wake_event(self.index) {
            io.add(wake.as_raw_fd(), TOKEN_WAKE, EventSet::IN)?;
        }
        self.follow(io)
    }

    /// Takes over what has changed for all pairs.
    fn follow(&mut self, io: &mut Io) -> io::Result<()> {
        self.active = self.index < self.shared.driver().active_pairs;
        self.gone = false;
        if let Some(share) = self.shared.share(&self.share)? {
            for limiter in [&self.share.receive, &self.share.transmit].into_iter().flatten() {
                // It may be from before a pause, and is about to be closed.
                let _ = io.remove(limiter.fd());
            }
            self.share = share;
            for (limiter, token) in [
                (&self.share.receive, TOKEN_RECEIVE_LIMITER),
                (&self.share.transmit, TOKEN_TRANSMIT_LIMITER),
            ] {
                if let Some(limiter) = limiter {
                    io.add(limiter.fd(), token, EventSet::IN)?;
                }
            }
        }
        self.watch_tap(io);
        Ok(())
    }

    /// Waits for the tap only as far as there is something to do with it, so that an idle driver costs nothing.
    fn watch_tap(&mut self, io: &Io) {
        let mut events = EventSet::empty();
        // With the link down there is always room for what is thrown away.
        events.set(EventSet::IN, !self.receive_blocked || !self.shared.link_up());
        events.set(EventSet::OUT, self.transmit_blocked);
        let wanted = (self.active && !self.gone).then_some(events);
        if wanted == self.watched {
            return;
        }
        let Some(tap) = self.tap() else {
            return;
        };
        let result = match (self.watched, wanted) {
            (None, Some(events)) => io.add(tap.fd(), TOKEN_TAP, events),
            (Some(_), Some(events)) => io.modify(tap.fd(), TOKEN_TAP, events),
            _ => io.remove(tap.fd()),
        };
        if let Err(error) = result {
            tracing::debug!(%error, "network device cannot wait for its tap");
        }
        self.watched = wanted;
    }

    fn tap(&self) -> Option<&Tap> {
        self.shared.taps.get(usize::from(self.index))
    }

    /// One of the pair's descriptors is ready.
    pub(super) fn event(&mut self, token: u32, events: EventSet, io: &mut Io) {
        match (token, &mut self.share.receive, &mut self.share.transmit) {
            (TOKEN_RECEIVE_LIMITER, Some(limiter), _) => {
                limiter.elapsed();
                self.receive(io);
            }
            (TOKEN_TRANSMIT_LIMITER, _, Some(limiter)) => {
                limiter.elapsed();
                self.transmit(io);
            }
            (TOKEN_WAKE, ..) => self.woken(io),
            (TOKEN_TAP, ..) => self.tap_ready(events, io),
            _ => {}
        }
    }

    fn woken(&mut self, io: &mut Io) {
        if let Some(wake) = self.shared.wake_event(self.index) {
            // Fails only when another event of the same round has been in between.
            let _ = wake.read();
        }
        if let Err(error) = self.follow(io) {
            tracing::warn!(%error, "the network device keeps its old limits");
        }
        self.receive(io);
        self.transmit(io);
    }

    fn tap_ready(&mut self, events: EventSet, io: &mut Io) {
        if events.contains(EventSet::OUT) {
            self.transmit(io);
        }
        if events.contains(EventSet::IN) {
            self.receive(io);
        }
        // A tap whose link was deleted signals an error for ever; without it there is nothing to wait for.
        if events.intersects(EventSet::ERROR | EventSet::HANG_UP)
            && !self.gone
            && self.tap().is_some_and(Tap::is_gone)
        {
            tracing::warn!("the network device's tap is gone");
            self.gone = true;
            self.watch_tap(io);
        }
    }

    /// Gives the driver what the host has.
    pub(super) fn receive(&mut self, io: &mut Io) {
        let shared = self.shared.clone();
        let Some(tap) = shared.taps.get(usize::from(self.index)).filter(|_| self.active) else {
            return;
        };
        let ram: Arc<Ram> = io.memory.memory().into_inner();
        let Some(queue) = io.queues.get_mut(RECEIVE) else {
            return;
        };
        let link_up = shared.link_up();
        let driver = shared.driver();
        self.receive_blocked = false;
        queue.disable_notification();
        for _ in 0..BUDGET {
            if link_up && !may_go_on(&mut self.share.receive, &self.metrics) {
                self.receive_blocked = true;
                break;
            }
            let outcome = match link_up {
                true => self
                    .receiver
                    .receive(tap, queue, &ram, &driver.filter, &self.metrics),
                false => self.receiver.discard(tap, &self.metrics),
            };
            match outcome {
                Outcome::Frame(len) => {
                    if let Some(limiter) = &mut self.share.receive {
                        limiter.spend(len as u64);
                    }
                }
                Outcome::Nothing => {}
                Outcome::NoFrames => break,
                // Buffers may have arrived just before notifications were on again.
                Outcome::NoBuffers if queue.enable_notification() => queue.disable_notification(),
                Outcome::NoBuffers => {
                    self.metrics.receive_waits.increment();
                    self.receive_blocked = true;
                    break;
                }
            }
        }
        queue.signal();
        drop(driver);
        self.watch_tap(io);
    }

    /// Gives the host what the driver has.
    pub(super) fn transmit(&mut self, io: &mut Io) {
        let shared = self.shared.clone();
        let Some(tap) = shared.taps.get(usize::from(self.index)) else {
            return;
        };
        let ram = io.memory.memory();
        let features = io.features;
        let Some(queue) = io.queues.get_mut(TRANSMIT) else {
            return;
        };
        let link_up = shared.link_up();
        self.transmit_blocked = false;
        let mut iovecs = Vec::new();
        let mut sent = 0;
        'more: loop {
            queue.disable_notification();
            while sent < BUDGET {
                if !may_go_on(&mut self.share.transmit, &self.metrics) {
                    break 'more;
                }
                let Some(mut chain) = queue.pop() else { break };
                let result = match link_up {
                    true => send(tap, &mut chain, features, &ram, &mut iovecs),
                    false => None,
                };
                match result {
                    Some(Ok(len)) => {
                        if let Some(limiter) = &mut self.share.transmit {
                            limiter.spend(len);
                        }
                        self.metrics.transmitted_frames.increment();
                        self.metrics.transmitted_bytes.add(len - HEADER_LEN as u64);
                    }
                    Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                        queue.undo_pop(chain.head);
                        self.metrics.transmit_waits.increment();
                        self.transmit_blocked = true;
                        break 'more;
                    }
                    // Malformed, refused, or the link is down: lost, as on any network.
                    _ => self.metrics.transmit_drops.increment(),
                }
                queue.add_used(chain.head, 0);
                sent += 1;
            }
            if sent >= BUDGET {
                queue.wake_again();
                break;
            }
            if !queue.enable_notification() {
                break;
            }
        }
        queue.signal();
        self.watch_tap(io);
    }

    /// The device pauses.
    pub(super) fn quiesce(&mut self, io: &mut Io) {
        self.receiver.put_back(io.queues.get_mut(RECEIVE));
        self.share = Share::default();
    }

    /// The driver is gone.
    pub(super) fn reset(&mut self) {
        self.receiver.forget();
    }
}

/// Whether a limit lets another frame pass. If not, its timer runs.
fn may_go_on(limiter: &mut Option<RateLimiter>, metrics: &PairMetrics) -> bool {
    let ready = limiter.as_mut().is_none_or(RateLimiter::ready);
    if !ready {
        metrics.throttled.increment();
    }
    ready
}

/// Sends a frame of the driver; returns its length with header. Nothing if it is malformed.
fn send(
    tap: &Tap,
    chain: &mut Chain,
    features: u64,
    ram: &Ram,
    iovecs: &mut Vec<libc::iovec>,
) -> Option<io::Result<u64>> {
    let len = chain.readable.len();
    let frame_len = len.checked_sub(HEADER_LEN as u64).filter(|len| *len > 0)?;
    if len > MAX_FRAME as u64 {
        return None;
    }
    let mut header = [0; HEADER_LEN];
    chain.readable.read(ram, &mut header).ok()?;
    let mut header = Header::decode(header).checked(features, frame_len)?.encode();
    iovecs.clear();
    iovecs.push(libc::iovec {
        iov_base: header.as_mut_ptr().cast(),
        iov_len: HEADER_LEN,
    });
    chain
        .readable
        .add_iovecs(ram, frame_len, |iovec| iovecs.push(iovec))
        .ok()?;
    // SAFETY: `ram` keeps the memory mapped during the call, and the header is ours.
    let result = unsafe { tap.send(iovecs) };
    Some(result.map(|_| len))
}
