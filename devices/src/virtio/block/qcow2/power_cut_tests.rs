//! What is left of an image when the power goes: every barrier keeps what was written before it, and of what was written
//! since then any part may have arrived.

use super::test_image::{create, open_chain, open_file, qemu_img};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

const SIZE: u64 = 256 << 10;
const CLUSTER: u64 = 4096;

/// What happened to the file.
#[derive(Debug, Clone)]
enum Event {
    Write(u64, Vec<u8>),
    Grow(u64),
    Punch(Range<u64>),
    Sync,
}

/// A file that remembers what happened to it.
struct Journal {
    file: Arc<dyn Storage>,
    events: Mutex<Vec<Event>>,
}

impl Journal {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Storage for Journal {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note(Event::Write(offset, bytes.to_vec()));
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.note(Event::Sync);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.note(Event::Grow(len));
        self.file.grow(len)
    }

    fn punch(&self, bytes: Range<u64>) -> io::Result<()> {
        self.note(Event::Punch(bytes.clone()));
        self.file.punch(bytes)
    }
}

/// One thing a guest does, in clusters or parts of them.
#[derive(Debug, Clone)]
enum Step {
    Write { at: u64, len: u64 },
    Discard { at: u64, len: u64 },
    Zero { at: u64, len: u64, unmap: bool },
    Flush,
    Grow,
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..SIZE / 512, 1u64..40).prop_map(|(at, len)| (at * 512, len.min(SIZE / 512 - at) * 512));
    prop_oneof![
        6 => range.clone().prop_map(|(at, len)| Step::Write { at, len }),
        2 => range.clone().prop_map(|(at, len)| Step::Discard { at, len }),
        2 => (range, any::<bool>()).prop_map(|((at, len), unmap)| Step::Zero { at, len, unmap }),
        3 => Just(Step::Flush),
        1 => Just(Step::Grow),
    ]
}

/// What each sector may hold after a cut: what it had at the last flush, or anything it was given since.
#[derive(Clone)]
struct Possible(Vec<Vec<u8>>);

impl Possible {
    fn add(&mut self, at: u64, len: u64, byte: u8) {
        for sector in &mut self.0[at as usize / 512..(at + len) as usize / 512] {
            sector.push(byte);
        }
    }

    fn flush(&mut self) {
        for sector in &mut self.0 {
            sector.drain(..sector.len() - 1);
        }
    }
}

/// Runs the steps; returns what happened to the file, and for each number of events what the disk may hold from then
/// on.
fn record(path: &Path, steps: &[Step], initial: &[u8]) -> (Vec<Event>, Vec<(usize, Possible)>) {
    let journal = Arc::new(Journal {
        file: open_file(path, true),
        events: Mutex::default(),
    });
    let below = backing_name(&*journal).unwrap().map(|name| {
        let file = open_file(&path.parent().unwrap().join(name.file), false);
        Layer::raw(1, file).unwrap()
    });
    let mut image = Qcow2::open(journal.clone(), 0, true, below).unwrap();
    let mut possible = Possible(initial.chunks(512).map(|sector| vec![sector[0]]).collect());
    let mut history = vec![(0, possible.clone())];
    let mut size = SIZE;
    for (step, byte) in steps.iter().zip(1u8..) {
        // From the first event of a step on, its outcome is possible.
        let before = journal.events.lock().unwrap().len();
        match *step {
            Step::Write { at, len } => possible.add(at, len, byte),
            Step::Zero { at, len, .. } => possible.add(at, len, 0),
            // Whatever is there afterwards: the test looks.
            Step::Discard { at, len } => possible.add(at, len, 0),
            Step::Flush | Step::Grow => {}
        }
        history.push((before, possible.clone()));
        match *step {
            Step::Write { at, len } => image.test_write(at, &vec![byte; len as usize]),
            Step::Zero { at, len, unmap } => image.zero(at..at + len, unmap).unwrap(),
            Step::Discard { at, len } => {
                image.discard(at..at + len).unwrap();
                // Parts of clusters keep what they had.
                for sector in at / 512..(at + len) / 512 {
                    let found = image.test_read(sector * 512, 1)[0];
                    possible.add(sector * 512, 512, found);
                }
            }
            Step::Flush => image.write_back().unwrap(),
            Step::Grow => {
                size += 100 << 20;
                image.grow(size).unwrap();
            }
        }
        if matches!(step, Step::Flush | Step::Grow) {
            possible.flush();
        }
        let after = journal.events.lock().unwrap().len();
        history.push((after, possible.clone()));
    }
    let events = journal.events.lock().unwrap().clone();
    (events, history)
}

/// The file after a cut at `cut` events: all before the last barrier, and of the rest what `lost` leaves.
fn remains(original: &[u8], events: &[Event], cut: usize, lost: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut file = original.to_vec();
    let events = &events[..cut];
    let durable = events
        .iter()
        .rposition(|event| matches!(event, Event::Sync))
        .unwrap_or(0);
    for (index, event) in events.iter().enumerate() {
        if index > durable && lost(index) {
            continue;
        }
        match event {
            Event::Write(at, bytes) => {
                let end = *at as usize + bytes.len();
                file.resize(file.len().max(end), 0);
                file[*at as usize..end].copy_from_slice(bytes);
            }
            Event::Grow(len) => file.resize(file.len().max(*len as usize), 0),
            Event::Punch(range) => {
                let end = (range.end as usize).min(file.len());
                file[(range.start as usize).min(end)..end].fill(0);
            }
            Event::Sync => {}
        }
    }
    file
}

fn story(steps: &[Step], cuts: &[(usize, u64)], backing: bool) {
    let folder = tempfile::tempdir().unwrap();
    let base = if backing { 0xbb } else { 0 };
    fs::write(folder.path().join("base.raw"), vec![base; SIZE as usize]).unwrap();
    let size = SIZE.to_string();
    let mut arguments = vec!["-o", "cluster_size=4k"];
    if backing {
        arguments.extend(["-F", "raw", "-b", "base.raw"]);
    }
    arguments.push(&size);
    let path = create(folder.path(), "disk.qcow2", &arguments);
    let original = fs::read(&path).unwrap();
    let (events, history) = record(&path, steps, &vec![base; SIZE as usize]);
    let history: BTreeMap<usize, Possible> = history.into_iter().collect();
    for (cut, seed) in cuts {
        let cut = cut % (events.len() + 1);
        let lost = |index: usize| seed.rotate_left(index as u32) & 1 == 1;
        fs::write(&path, remains(&original, &events, cut, lost)).unwrap();
        let (status, text) = qemu_img(&["check", "-f", "qcow2", path.to_str().unwrap()]);
        // 3: clusters that nobody uses.
        assert!(
            status == 0 || status == 3,
            "cut at {cut} of {}: {text}",
            events.len()
        );
        let mut image = open_chain(&path);
        let found = image.test_read(0, SIZE as usize);
        let (_, possible) = history.range(..=cut).next_back().unwrap();
        for (index, sector) in found.chunks(512).enumerate() {
            let same = sector.iter().all(|byte| *byte == sector[0]);
            assert!(
                same && possible.0[index].contains(&sector[0]),
                "cut at {cut} of {}: sector {index} has {:#x}, may have {:x?}",
                events.len(),
                sector[0],
                possible.0[index]
            );
        }
        // It goes on from there.
        image.test_write(CLUSTER * 3, &[0xcc; 2 * CLUSTER as usize]);
        image.write_back().unwrap();
        let (status, text) = qemu_img(&["check", "-f", "qcow2", path.to_str().unwrap()]);
        assert!(status == 0 || status == 3, "after cut at {cut}: {text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_power_cut_loses_nothing_that_was_flushed_and_leaves_tables_in_order(
        steps in prop::collection::vec(step(), 4..30),
        cuts in prop::collection::vec(any::<(usize, u64)>(), 12),
        backing: bool,
    ) {
        story(&steps, &cuts, backing);
    }
}
