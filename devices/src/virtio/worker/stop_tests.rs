//! Devices that do not stop when they are told to, because somebody else still has their requests.

use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use crate::virtio::device::{DeviceError, Reset, VirtioDevice};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// What a test does with a [`Slow`] device.
struct Strings {
    /// The worker hangs, as in a system call.
    stuck: AtomicBool,
    /// Requests that somebody else has; the event says that they have ended.
    away: AtomicUsize,
    ended: EventFd,
    abandoned: AtomicBool,
    resets: AtomicUsize,
    alive: AtomicBool,
}

/// A device that gives its requests to somebody else.
struct Slow {
    strings: Arc<Strings>,
    heads: Vec<u16>,
}

impl Slow {
    fn new() -> (Self, Arc<Strings>) {
        let strings = Arc::new(Strings {
            stuck: AtomicBool::new(false),
            away: AtomicUsize::new(0),
            ended: EventFd::new(EFD_NONBLOCK).unwrap(),
            abandoned: AtomicBool::new(false),
            resets: AtomicUsize::new(0),
            alive: AtomicBool::new(true),
        });
        let slow = Self {
            strings: strings.clone(),
            heads: Vec::new(),
        };
        (slow, strings)
    }
}

impl Slow {
    fn hang(&self) {
        while self.strings.stuck.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.strings.alive.store(false, Ordering::SeqCst);
    }
}

impl Backend for Slow {
    type State = ();

    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![16]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::default()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        Arc::new(())
    }

    fn start(&mut self, io: &mut Io) -> io::Result<()> {
        io.add(self.strings.ended.as_raw_fd(), 0, EventSet::IN)
    }

    fn queue_ready(&mut self, index: usize, io: &mut Io) {
        self.hang();
        let queue = &mut io.queues[index];
        while let Some(chain) = queue.pop() {
            self.heads.push(chain.head);
            self.strings.away.fetch_add(1, Ordering::SeqCst);
        }
        queue.enable_notification();
    }

    fn event(&mut self, _token: u32, _events: EventSet, io: &mut Io) {
        let _ = self.strings.ended.read();
        self.strings.away.store(0, Ordering::SeqCst);
        if !self.strings.abandoned.load(Ordering::SeqCst) {
            self.heads
                .drain(..)
                .for_each(|head| io.queues[0].add_used(head, 0));
            io.queues[0].signal();
        }
        self.heads.clear();
    }

    fn is_busy(&self) -> bool {
        self.strings.away.load(Ordering::SeqCst) > 0
    }

    fn abandon(&mut self, _io: &mut Io) {
        self.strings.abandoned.store(true, Ordering::SeqCst);
    }

    fn update(&mut self, update: serde_json::Value, io: Option<&mut Io>) -> UpdateResult {
        self.hang();
        Ok(serde_json::json!({"changed": update, "active": io.is_some()}))
    }

    fn reset(&mut self) {
        self.strings.abandoned.store(false, Ordering::SeqCst);
        self.strings.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn save(&self) {}
}

use std::os::fd::AsRawFd;

/// A device with a request that somebody else has.
fn busy() -> (Harness, Arc<Strings>) {
    let (slow, strings) = Slow::new();
    let mut harness = Harness::new(slow, 0);
    harness.queues[0].add(&[Part::Write(1)]);
    harness.queues[0].kick();
    wait(|| strings.away.load(Ordering::SeqCst) == 1);
    (harness, strings)
}

fn wait(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_reset_goes_on_by_itself_until_nobody_has_requests() {
    let (mut harness, strings) = busy();
    assert_eq!(harness.device.reset(), Reset::Pending);
    assert_eq!(harness.device.reset(), Reset::Pending);
    assert!(matches!(harness.device.pause(), Err(DeviceError::Busy { .. })));
    assert_eq!(strings.resets.load(Ordering::SeqCst), 0);
    strings.ended.write(1).unwrap();
    wait(|| harness.device.reset() == Reset::Done);
    assert_eq!(strings.resets.load(Ordering::SeqCst), 1);
    // Of the request the driver has heard nothing more.
    assert_eq!(harness.queues[0].poll(), None);
    harness.activate(0);
    harness.queues[0].add(&[Part::Write(1)]);
    harness.queues[0].kick();
    wait(|| strings.away.load(Ordering::SeqCst) == 1);
    strings.ended.write(1).unwrap();
    assert!(harness.next_used(0).is_some());
}

#[test]
fn a_worker_that_hangs_holds_up_neither_a_reset_nor_the_end_of_its_device() {
    let (slow, strings) = Slow::new();
    strings.stuck.store(true, Ordering::SeqCst);
    let mut harness = Harness::new(slow, 0);
    assert_eq!(harness.device.reset(), Reset::Pending);
    drop(harness);
    assert!(strings.alive.load(Ordering::SeqCst));
    strings.stuck.store(false, Ordering::SeqCst);
    wait(|| !strings.alive.load(Ordering::SeqCst));
}

#[test]
fn a_device_that_cannot_be_paused_goes_on() {
    let (mut harness, strings) = busy();
    assert!(matches!(harness.device.pause(), Err(DeviceError::Busy { .. })));
    // What was added meanwhile is taken, too.
    harness.queues[0].add(&[Part::Write(1)]);
    harness.queues[0].kick();
    wait(|| strings.away.load(Ordering::SeqCst) == 2);
    strings.ended.write(1).unwrap();
    for _ in 0..2 {
        assert!(harness.next_used(0).is_some());
    }
    harness.device.pause().unwrap();
    harness.device.resume().unwrap();
}

#[test]
fn a_pause_waits_for_requests_and_takes_no_new_ones() {
    let (mut harness, strings) = busy();
    let later = {
        let strings = strings.clone();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(300));
            strings.ended.write(1).unwrap();
        })
    };
    harness.device.pause().unwrap();
    later.join().unwrap();
    assert!(harness.queues[0].poll().is_some());
    harness.queues[0].add(&[Part::Write(1)]);
    assert_eq!(harness.device.reset(), Reset::Done);
}

#[test]
fn a_change_at_rest_that_hangs_holds_up_nobody_and_is_made_in_the_end() {
    let (slow, strings) = Slow::new();
    let mut harness = Harness::new(slow, 0);
    harness.device.pause().unwrap();
    let change = |harness: &mut Harness| harness.device.update(1.into()).wait(PATIENCE);
    assert_eq!(
        change(&mut harness).unwrap(),
        serde_json::json!({"changed": 1, "active": true})
    );
    strings.stuck.store(true, Ordering::SeqCst);
    let first = harness.device.update(2.into());
    let second = change(&mut harness);
    assert!(matches!(second, Err(UpdateError::NoAnswer)));
    assert!(matches!(harness.device.resume(), Err(DeviceError::Busy { .. })));
    strings.stuck.store(false, Ordering::SeqCst);
    assert_eq!(first.wait(PATIENCE).unwrap()["changed"], 2);
    harness.device.resume().unwrap();
    assert_eq!(change(&mut harness).unwrap()["changed"], 1);
}

#[test]
fn a_device_that_hangs_while_it_is_changed_is_reset_and_gone_when_it_can_be() {
    let (slow, strings) = Slow::new();
    let mut device = Virtio::new(slow);
    strings.stuck.store(true, Ordering::SeqCst);
    let pending = device.update(3.into());
    assert_eq!(device.reset(), Reset::Pending);
    assert!(matches!(device.pause(), Err(DeviceError::Busy { .. })));
    strings.stuck.store(false, Ordering::SeqCst);
    assert_eq!(pending.wait(PATIENCE).unwrap()["active"], false);
    assert_eq!(device.reset(), Reset::Done);
    strings.stuck.store(true, Ordering::SeqCst);
    let _ = device.update(4.into());
    drop(device);
    assert!(strings.alive.load(Ordering::SeqCst));
    strings.stuck.store(false, Ordering::SeqCst);
    wait(|| !strings.alive.load(Ordering::SeqCst));
}
