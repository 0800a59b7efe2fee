//! A driver and a device that do as they please, beside a plain model of what the queue between them must do.

use super::Queue;
use super::tests::{EVENT_IDX, FORMS, Setup, notify, setup};
use crate::testing::Part;
use proptest::prelude::*;
use std::collections::VecDeque;

/// What a driver and a device do to a queue.
#[derive(Debug, Clone)]
enum Step {
    /// Driver: adds a request of so many parts to read and to write, perhaps by an indirect table.
    Add(u8, u8, bool),
    /// Driver: takes what has come back.
    Poll,
    /// Driver: asks for the next interrupt.
    Want,
    /// Device: takes a chain.
    Pop,
    /// Device: puts the last one back.
    Undo,
    /// Device: gives one of its chains back.
    Use(u8),
    /// Device: gives all back, the last first.
    UseAll,
    /// Device: tells the driver.
    Signal,
    /// Device: asks for notifications.
    Enable,
    /// Device: asks for none.
    Disable,
    /// Device: is saved and restored, if it has no chain.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3u8, 1..3u8, any::<bool>()).prop_map(|(read, write, indirect)| Step::Add(read, write, indirect)),
        4 => Just(Step::Poll),
        1 => Just(Step::Want),
        6 => Just(Step::Pop),
        1 => Just(Step::Undo),
        4 => any::<u8>().prop_map(Step::Use),
        1 => Just(Step::UseAll),
        2 => Just(Step::Signal),
        1 => Just(Step::Enable),
        1 => Just(Step::Disable),
        2 => Just(Step::Restore),
    ]
}

/// A request as both sides must see it: the driver's id, and the numbers of bytes to read and to write.
type Request = (u16, u64, u64);

/// A driver and a device with a plain idea of what the queue between them must do.
struct Model {
    setup: Setup,
    features: u64,
    /// Added, and not popped.
    waiting: VecDeque<Request>,
    /// Popped, and not given back, in order of popping, with the number of the pop.
    popped: Vec<(u16, Request, u64)>,
    /// The latest pop whose chain was given back.
    latest_used: u64,
    pops: u64,
    /// Given back, and not seen by the driver.
    used: VecDeque<(u16, u32)>,
    /// Descriptors in the ring that the driver has used up.
    taken: usize,
    /// Interrupts that there were when the driver asked for the next one, and whether something was given back since.
    wanted: Option<(u64, bool)>,
    /// The device has been promised a notification.
    watching: bool,
}

const SIZE: u16 = 8;

impl Model {
    fn new(features: u64) -> Self {
        Self {
            setup: setup(SIZE, features),
            features,
            waiting: VecDeque::new(),
            popped: Vec::new(),
            latest_used: 0,
            pops: 0,
            used: VecDeque::new(),
            taken: 0,
            wanted: None,
            watching: false,
        }
    }

    fn give_back(&mut self, index: usize) -> (u16, u32) {
        let (head, (id, _, writable), pop) = self.popped.remove(index);
        self.latest_used = self.latest_used.max(pop);
        let len = (writable as u32).saturating_sub(1);
        self.used.push_back((id, len));
        if let Some((_, given_back)) = &mut self.wanted {
            *given_back = true;
        }
        (head, len)
    }

    fn run(&mut self, step: &Step) {
        let Setup {
            guest,
            driver,
            queue,
            interrupt,
        } = &mut self.setup;
        match step {
            Step::Add(read, write, indirect) => {
                let count = if *indirect { 1 } else { usize::from(read + write) };
                if self.taken + count > usize::from(SIZE) {
                    return;
                }
                self.taken += count;
                driver.set_indirect(*indirect);
                let mut parts = vec![Part::Read(vec![7; 3]); usize::from(*read)];
                parts.extend(vec![Part::Write(2); usize::from(*write)]);
                let id = driver.add(&parts);
                self.waiting
                    .push_back((id, 3 * u64::from(*read), 2 * u64::from(*write)));
                let (wanted, promised) = (
                    driver.device_wants_notification(),
                    std::mem::take(&mut self.watching),
                );
                assert!(wanted || !promised, "a notification is missing");
            }
            Step::Poll => {
                let polled = driver.poll().map(|(id, len, _)| (id, len));
                assert_eq!(polled, self.used.pop_front());
                self.taken = driver.taken();
            }
            Step::Want if self.used.is_empty() => {
                match self.features & EVENT_IDX {
                    0 => driver.want_interrupts(true),
                    _ => driver.want_interrupt(),
                }
                queue.signal();
                self.wanted = Some((interrupt.count(), false));
            }
            Step::Pop => {
                let chain = queue.pop();
                let seen = chain
                    .as_ref()
                    .map(|chain| (chain.readable.len(), chain.writable.len()));
                let wanted = self.waiting.pop_front();
                assert_eq!(seen, wanted.map(|(_, readable, writable)| (readable, writable)));
                if let (Some(chain), Some(request)) = (chain, wanted) {
                    self.pops += 1;
                    self.popped.push((chain.head, request, self.pops));
                }
            }
            Step::Undo => {
                if let Some((head, request, pop)) = self.popped.pop() {
                    // One that was popped later is gone: too late.
                    if pop < self.latest_used {
                        return self.popped.push((head, request, pop));
                    }
                    queue.undo_pop(head);
                    self.waiting.push_front(request);
                    self.watching = false;
                }
            }
            Step::Use(choice) if !self.popped.is_empty() => {
                let (head, len) = self.give_back(usize::from(*choice) % self.popped.len());
                self.setup.queue.add_used(head, len);
            }
            Step::UseAll => {
                let used: Vec<_> = (0..self.popped.len())
                    .rev()
                    .map(|index| self.give_back(index))
                    .collect();
                self.setup.queue.add_used_together(&used);
            }
            Step::Signal => {
                queue.signal();
                if let Some((before, true)) = self.wanted {
                    assert!(interrupt.count() > before, "a wanted interrupt is missing");
                    self.wanted = None;
                }
            }
            Step::Enable => {
                let more = queue.enable_notification();
                assert_eq!(more, !self.waiting.is_empty());
                self.watching = !more;
            }
            Step::Disable => {
                queue.disable_notification();
                self.watching = false;
            }
            Step::Restore if self.popped.is_empty() => {
                queue.signal();
                if let Some((_, true)) = self.wanted {
                    self.wanted = None;
                }
                let json = serde_json::to_string(&queue.state()).unwrap();
                let state = serde_json::from_str(&json).unwrap();
                let memory = guest.memory();
                *queue = Queue::new(
                    0,
                    SIZE,
                    &state,
                    self.features,
                    memory,
                    interrupt.clone(),
                    notify(),
                )
                .unwrap();
            }
            Step::Want | Step::Use(_) | Step::Restore => {}
        }
        assert!(self.setup.queue.is_ready());
    }
}

/// A driver that polls lets the device give back more than a ring before it has been told anything.
#[test]
fn a_wanted_interrupt_comes_also_after_more_than_a_round() {
    use Step::{Add, Poll, Pop, Signal, Use, UseAll, Want};
    for features in FORMS {
        let mut model = Model::new(features);
        let first = [Add(2, 2, false), Pop, Use(0), Poll];
        let then = [Add(2, 2, false), Pop, Use(0), Poll];
        let round = [Add(2, 2, false), Pop, Add(2, 2, false), Pop, UseAll, Signal];
        for step in first.iter().chain([&Want]).chain(&then).chain(&round) {
            model.run(step);
        }
    }
}

/// All short histories from shortly before the end of the ring, with one chain at the device and one before it.
#[test]
fn no_short_history_loses_a_request_or_a_notification() {
    use Step::{Add, Enable, Poll, Pop, Restore, Signal, Undo, Use, UseAll, Want};
    const DEPTH: u32 = 3;
    let all = [
        Add(1, 1, false),
        Add(0, 1, true),
        Pop,
        Undo,
        Use(0),
        UseAll,
        Poll,
        Want,
        Signal,
        Enable,
        Restore,
    ];
    for features in FORMS {
        for history in 0..all.len().pow(DEPTH) {
            let mut model = Model::new(features);
            for _ in 2..SIZE {
                [Add(0, 1, false), Pop, Use(0), Poll]
                    .iter()
                    .for_each(|step| model.run(step));
            }
            for place in 0..DEPTH {
                model.run(&all[history / all.len().pow(place) % all.len()]);
            }
        }
    }
}

proptest! {
    /// Whatever driver and device do, requests arrive once, in order and whole, come back as they were given back, and
    /// nobody waits for a notification that was promised.
    #[test]
    fn requests_arrive_and_come_back_whatever_the_order(
        form in 0..FORMS.len(),
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut model = Model::new(FORMS[form]);
        for step in &steps {
            model.run(step);
        }
    }
}
