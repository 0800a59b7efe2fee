use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use crate::virtio::device::{Activation, DeviceError};
use crate::virtio::queue::QueueState;
use crate::virtio::update::{UpdateError, parse};
use serde_json::json;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};

/// A device that does what a test tells it to.
#[derive(Default)]
struct Puppet {
    served: Arc<AtomicUsize>,
    resets: Arc<AtomicUsize>,
    fail_start: Arc<AtomicBool>,
    panic: Arc<AtomicBool>,
    stuck: Arc<AtomicBool>,
}

#[derive(Default, Serialize)]
struct Nothing {}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    number: u8,
}

impl Backend for Puppet {
    type State = Nothing;

    fn device_type(&self) -> DeviceType {
        DeviceType::Rng
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![16]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::default()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        Arc::new(Nothing::default())
    }

    fn start(&mut self, _io: &mut Io) -> io::Result<()> {
        match self.fail_start.load(Ordering::SeqCst) {
            true => Err(io::Error::other("told to fail")),
            false => Ok(()),
        }
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        let (served, panic) = (&self.served, &self.panic);
        io.serve(queue, 4, |_, _| {
            assert!(!panic.load(Ordering::SeqCst), "told to panic");
            served.fetch_add(1, Ordering::SeqCst);
            0
        });
    }

    fn update(&mut self, update: serde_json::Value, io: Option<&mut Io>) -> UpdateResult {
        while self.stuck.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let Change { number } = parse(update)?;
        if let Some(io) = io {
            io.interrupt.config();
        }
        let thread = std::thread::current().name().map(str::to_owned);
        Ok(serde_json::json!({"number": number, "thread": thread}))
    }

    fn reset(&mut self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn save(&self) -> Nothing {
        Nothing::default()
    }
}

#[test]
fn more_requests_than_the_budget_are_all_served() {
    let puppet = Puppet::default();
    let served = puppet.served.clone();
    let mut harness = Harness::new(puppet, 0);
    for _ in 0..15 {
        harness.queues[0].add(&[Part::Write(1)]);
    }
    harness.queues[0].kick();
    assert!(harness.interrupt.wait(|| served.load(Ordering::SeqCst) == 15));
}

#[test]
fn a_device_is_saved_only_while_it_rests() {
    let mut harness = Harness::new(Puppet::default(), 0);
    assert!(matches!(
        harness.device.save(),
        Err(DeviceError::Phase {
            operation: "save",
            ..
        })
    ));
    assert!(harness.device.queue_states().is_empty());
    harness.device.pause().unwrap();
    harness.device.pause().unwrap();
    harness.device.save().unwrap();
    assert_eq!(harness.device.queue_states().len(), 1);
    harness.device.resume().unwrap();
    harness.device.resume().unwrap();
    harness.request(0, &[Part::Write(1)]);
    harness.device.reset();
    harness.device.save().unwrap();
}

#[test]
fn an_active_device_cannot_be_activated_again() {
    let puppet = Puppet::default();
    let resets = puppet.resets.clone();
    let mut harness = Harness::new(puppet, 0);
    let again = Activation {
        memory: harness.guest.memory(),
        queues: Vec::new(),
        interrupt: harness.interrupt.clone(),
        features: 0,
        thread_hook: no_hook(),
    };
    assert!(matches!(
        harness.device.activate(again),
        Err(DeviceError::Phase { phase: "running", .. })
    ));
    harness.request(0, &[Part::Write(1)]);
    harness.device.reset();
    harness.device.reset();
    assert_eq!(resets.load(Ordering::SeqCst), 2);
    harness.activate(0);
    harness.request(0, &[Part::Write(1)]);
}

#[test]
fn a_device_that_cannot_start_asks_for_a_reset_and_may_succeed_later() {
    let puppet = Puppet::default();
    let fail = puppet.fail_start.clone();
    fail.store(true, Ordering::SeqCst);
    let mut harness = Harness::new(puppet, 0);
    assert!(harness.interrupt.wait(|| harness.interrupt.asked_for_reset()));
    fail.store(false, Ordering::SeqCst);
    harness.device.reset();
    harness.activate(0);
    harness.request(0, &[Part::Write(1)]);
}

#[test]
fn the_hook_runs_first_on_each_worker_thread_and_can_forbid_it() {
    let mut harness = Harness::new(Puppet::default(), 0);
    harness.device.reset();
    let (sender, names) = mpsc::channel();
    let sender = Mutex::new(sender);
    let hook: ThreadHook = Arc::new(move |name| {
        sender
            .lock()
            .unwrap()
            .send((name.to_owned(), std::thread::current().name().map(str::to_owned)))
            .unwrap();
        Err(io::Error::other("forbidden"))
    });
    let interrupt = harness.interrupt.clone();
    let activation = Activation {
        memory: harness.guest.memory(),
        queues: Vec::new(),
        interrupt: interrupt.clone(),
        features: 0,
        thread_hook: hook,
    };
    harness.device.activate(activation).unwrap();
    let (name, thread) = names.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        (name.as_str(), thread.as_deref()),
        ("virtio-rng", Some("virtio-rng"))
    );
    assert!(interrupt.wait(|| interrupt.asked_for_reset()));
}

#[test]
fn a_worker_that_dies_leaves_a_dead_device_and_a_living_process() {
    let puppet = Puppet::default();
    puppet.panic.store(true, Ordering::SeqCst);
    let mut harness = Harness::new(puppet, 0);
    harness.queues[0].add(&[Part::Write(1)]);
    harness.queues[0].kick();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(matches!(
        harness.device.pause(),
        Err(DeviceError::Phase { phase: "dead", .. })
    ));
    harness.device.reset();
    assert!(harness.device.save().is_err());
}

#[test]
fn an_update_reaches_the_device_in_every_phase() {
    let mut harness = Harness::new(Puppet::default(), 0);
    let update = |harness: &mut Harness| {
        let answer = harness
            .device
            .update(json!({"number": 7}))
            .wait(PATIENCE)
            .unwrap();
        assert_eq!(answer["number"], 7);
        answer["thread"].as_str() == Some("virtio-rng")
    };
    assert!(update(&mut harness), "the worker makes it");
    harness.device.pause().unwrap();
    assert!(!update(&mut harness));
    harness.device.resume().unwrap();
    assert!(update(&mut harness));
    harness.device.reset();
    assert!(!update(&mut harness));
}

#[test]
fn an_update_of_another_device_is_refused() {
    let mut harness = Harness::new(Puppet::default(), 0);
    for wrong in [
        json!({"number": 300}),
        json!({"number": 1, "size": 2}),
        json!(null),
    ] {
        let result = harness.device.update(wrong).wait(PATIENCE);
        assert!(matches!(result, Err(UpdateError::Invalid(_))), "{result:?}");
    }
}

#[test]
fn a_device_that_does_not_answer_holds_up_nobody_and_answers_what_waits_before_it_stops() {
    let puppet = Puppet::default();
    let stuck = puppet.stuck.clone();
    stuck.store(true, Ordering::SeqCst);
    let mut harness = Harness::new(puppet, 0);
    let late = harness.device.update(json!({"number": 1}));
    let short = std::time::Duration::from_millis(10);
    let refused = (0..40).filter(|_| {
        let result = harness.device.update(json!({"number": 2})).wait(short);
        matches!(result, Err(UpdateError::NoAnswer))
    });
    assert_eq!(refused.count(), 40);
    stuck.store(false, Ordering::SeqCst);
    harness.device.pause().unwrap();
    assert_eq!(late.wait(PATIENCE).unwrap()["number"], 1);
}

/// A device with a thread for each of its pairs of queues, and a last queue that belongs to the first of them. It answers
/// with its group's number.
struct Spread {
    number: u8,
    siblings: Vec<Spread>,
    resets: Arc<AtomicUsize>,
    threads: Arc<Mutex<Vec<String>>>,
    panic: Arc<AtomicBool>,
}

impl Spread {
    fn new(groups: u8) -> Self {
        let mut first = Self {
            number: 0,
            siblings: Vec::new(),
            resets: Arc::default(),
            threads: Arc::default(),
            panic: Arc::default(),
        };
        first.siblings = (1..groups)
            .map(|number| Self {
                number,
                siblings: Vec::new(),
                resets: first.resets.clone(),
                threads: first.threads.clone(),
                panic: first.panic.clone(),
            })
            .collect();
        first
    }
}

impl Backend for Spread {
    type State = Nothing;

    fn device_type(&self) -> DeviceType {
        DeviceType::Net
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![16; 2 * (1 + self.siblings.len()) + 1]
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::default()
    }

    fn metrics(&self) -> Arc<dyn Metrics> {
        Arc::new(Nothing::default())
    }

    fn take_siblings(&mut self) -> Vec<Self> {
        std::mem::take(&mut self.siblings)
    }

    fn group(&self, queue: u16, _features: u64) -> usize {
        if queue < 6 { usize::from(queue / 2) } else { 0 }
    }

    fn start(&mut self, _io: &mut Io) -> io::Result<()> {
        let name = std::thread::current().name().map(str::to_owned);
        self.threads.lock().unwrap().extend(name);
        Ok(())
    }

    fn queue_ready(&mut self, queue: usize, io: &mut Io) {
        let (number, panic) = (self.number, &self.panic);
        io.serve(queue, 4, |chain, ram| {
            assert!(number == 0 || !panic.load(Ordering::SeqCst), "told to panic");
            chain
                .writable
                .write(ram, &[number, queue as u8])
                .map_or(0, |()| 2)
        });
    }

    fn reset(&mut self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn save(&self) -> Nothing {
        assert_eq!(self.number, 0, "the first speaks for the device");
        Nothing::default()
    }
}

fn answers(harness: &mut Harness) -> Vec<Vec<u8>> {
    (0..harness.queues.len())
        .map(|queue| harness.request(queue, &[Part::Write(2)]).1)
        .collect()
}

#[test]
fn each_group_of_queues_has_a_thread_and_one_device_holds_them_together() {
    let spread = Spread::new(3);
    let (resets, threads) = (spread.resets.clone(), spread.threads.clone());
    let mut harness = Harness::new(spread, 0);
    let all = [[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 1], [0, 2]];
    assert_eq!(answers(&mut harness), all);
    let mut names = std::mem::take(&mut *threads.lock().unwrap());
    names.sort();
    assert_eq!(names, ["virtio-net", "virtio-net-1", "virtio-net-2"]);
    harness.device.pause().unwrap();
    harness.device.save().unwrap();
    let states: Vec<QueueState> = harness.queues.iter().map(|queue| queue.state.clone()).collect();
    for (now, first) in harness.device.queue_states().iter().zip(&states) {
        assert_eq!((now.descriptor_table, now.next_used), (first.descriptor_table, 1));
    }
    assert_eq!(harness.device.queue_states().len(), 7);
    harness.device.resume().unwrap();
    assert_eq!(answers(&mut harness), all);
    harness.device.reset();
    assert_eq!(resets.load(Ordering::SeqCst), 3);
    harness.activate(0);
    assert_eq!(answers(&mut harness), all);
}

#[test]
fn a_group_that_the_driver_leaves_alone_has_no_thread() {
    let spread = Spread::new(3);
    let threads = spread.threads.clone();
    let mut harness = Harness::new(spread, 0);
    harness.device.reset();
    threads.lock().unwrap().clear();
    harness.activate_some(0, |queue| queue / 2 == 1);
    harness.request(2, &[Part::Write(2)]);
    // Once it has stopped, all threads that were to start have started.
    harness.device.pause().unwrap();
    let mut names = std::mem::take(&mut *threads.lock().unwrap());
    names.sort();
    assert_eq!(names, ["virtio-net", "virtio-net-1"]);
    assert_eq!(harness.device.queue_states().len(), 7);
    harness.device.resume().unwrap();
    harness.request(3, &[Part::Write(2)]);
}

#[test]
fn if_one_thread_of_a_device_dies_the_others_end() {
    let spread = Spread::new(3);
    let panic = spread.panic.clone();
    let mut harness = Harness::new(spread, 0);
    answers(&mut harness);
    panic.store(true, Ordering::SeqCst);
    harness.queues[2].add(&[Part::Write(2)]);
    harness.queues[2].kick();
    std::thread::sleep(std::time::Duration::from_millis(50));
    harness.request(0, &[Part::Write(2)]);
    assert!(matches!(
        harness.device.pause(),
        Err(DeviceError::Phase { phase: "dead", .. })
    ));
    harness.device.reset();
    assert!(harness.device.save().is_err());
}
