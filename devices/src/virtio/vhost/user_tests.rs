//! Against back ends of our own, which come and go, and against one that says whatever a test wants.

use super::*;
use crate::testing::{Guest, Harness, PATIENCE, Part, Volume};
use crate::virtio::block::{self, Block, DiskFile};
use crate::virtio::device::VirtioDevice;
use crate::virtio::net::MacAddress;
use crate::virtio::transport::vhost_user::serve;
use crate::virtio::worker::{Virtio, no_hook};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

const VERSION_1: u64 = 1 << 32;
const FLUSH: u64 = 1 << virtio_bindings::virtio_blk::VIRTIO_BLK_F_FLUSH;

/// A place where back ends listen, and their disk.
struct Place {
    folder: tempfile::TempDir,
    disk: File,
}

/// A back end at work.
struct Serving {
    front_end: UnixStream,
    thread: JoinHandle<()>,
}

impl Place {
    fn new() -> Self {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(1 << 20).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            disk,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn connector(&self) -> Connector {
        let socket = self.socket();
        Box::new(move || UnixStream::connect(&socket))
    }

    fn listen(&self) -> UnixListener {
        let _ = std::fs::remove_file(self.socket());
        UnixListener::bind(self.socket()).unwrap()
    }

    /// Starts a back end for one front end; it is there once this returns.
    fn serve(&self, queues: u16) -> JoinHandle<Serving> {
        let (listener, disk) = (self.listen(), self.disk.try_clone().unwrap());
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let config = block::Config {
                serial: "remote".to_owned(),
                queues,
                ..Default::default()
            };
            let device = Box::new(Virtio::new(
                Block::new(config, vec![DiskFile::raw(disk).unwrap()]).unwrap(),
            ));
            let front_end = stream.try_clone().unwrap();
            let thread = std::thread::spawn(move || drop(serve(device, stream, no_hook())));
            Serving { front_end, thread }
        })
    }

    fn device(&self, queues: u16) -> Box<dyn VirtioDevice> {
        let device = VhostUser::new(Profile::Block { queues }, self.connector()).unwrap();
        Box::new(Virtio::new(device))
    }
}

impl Serving {
    fn die(self) {
        self.front_end.shutdown(Shutdown::Both).unwrap();
        self.thread.join().unwrap();
    }
}

fn header(kind: u32, sector: u64) -> Part {
    Part::Read([&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat())
}

fn write(harness: &mut Harness, queue: usize, sector: u64, byte: u8) {
    let parts = [header(1, sector), Part::Read(vec![byte; 512]), Part::Write(1)];
    assert_eq!(harness.request(queue, &parts), (1, vec![0]));
}

fn read(harness: &mut Harness, queue: usize, sector: u64) -> u8 {
    let (len, bytes) = harness.request(queue, &[header(0, sector), Part::Write(513)]);
    assert_eq!((len, bytes[512]), (513, 0));
    bytes[0]
}

/// Waits until so many interrupts have come by way of the worker.
fn relayed(harness: &Harness, count: u64) -> bool {
    let metrics = || harness.device.metrics();
    harness
        .interrupt
        .wait(|| metrics()["relayed_interrupts"] == count)
}

#[test]
fn a_disk_is_served_by_another_process() {
    let place = Place::new();
    let serving = place.serve(2);
    let device = place.device(2);
    let mut capacity = [0; 8];
    device.config().read(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 2048);
    assert_ne!(device.features() & FLUSH, 0);
    let mut harness = Harness::with_device(device, VERSION_1 | FLUSH);
    write(&mut harness, 0, 3, 7);
    assert_eq!(read(&mut harness, 1, 3), 7);
    assert!(relayed(&harness, 2));
    harness.device.reset();
    // The next driver, which uses other features and only one queue.
    harness.activate_some(VERSION_1 | 1 << 29, |queue| queue == 0);
    harness.queues[0].want_interrupt();
    assert_eq!(read(&mut harness, 0, 3), 7);
    drop(harness);
    serving.join().unwrap().thread.join().unwrap();
}

#[test]
fn a_paused_device_goes_on_where_it_was() {
    let place = Place::new();
    let _serving = place.serve(1);
    let mut harness = Harness::with_device(place.device(1), VERSION_1 | FLUSH);
    for round in 1..=3 {
        write(&mut harness, 0, round, round as u8);
        harness.device.pause().unwrap();
        let state = &harness.device.queue_states()[0];
        assert_eq!(u64::from(state.next_available), 2 * round - 1);
        assert_eq!(state.next_used, state.next_available);
        // Added while nobody serves the queue.
        harness.queues[0].add(&[header(0, round), Part::Write(513)]);
        harness.queues[0].kick();
        assert_eq!(harness.queues[0].poll(), None);
        harness.device.resume().unwrap();
        let (_, _, bytes) = harness.next_used(0).unwrap();
        assert_eq!(u64::from(bytes[0]), round);
    }
    let state = serde_json::json!({"profile": {"device": "block", "queues": 1}});
    harness.device.pause().unwrap();
    assert_eq!(harness.device.save().unwrap(), state);
}

#[test]
fn a_back_end_that_dies_and_returns_is_found_and_nothing_is_lost() {
    let place = Place::new();
    let mut serving = place.serve(1).join_when(|| place.device(1));
    let mut harness = Harness::with_device(serving.1, VERSION_1 | FLUSH);
    for round in 1..=3u64 {
        write(&mut harness, 0, round, round as u8);
        serving.0.die();
        // The guest goes on as if nothing had happened.
        harness.queues[0].add(&[header(0, round), Part::Write(513)]);
        harness.queues[0].kick();
        assert!(
            harness
                .interrupt
                .wait(|| harness.device.metrics()["disconnects"] == round)
        );
        let next = place.serve(1);
        let (_, _, bytes) = harness.next_used(0).expect("an answer of the next back end");
        assert_eq!((u64::from(bytes[0]), bytes[512]), (round, 0));
        serving.0 = next.join().unwrap();
        assert_eq!(harness.device.metrics()["reconnects"], round);
    }
    assert!(!harness.interrupt.asked_for_reset());
    // One that is away does not keep anybody from stopping the device.
    serving.0.die();
    assert!(
        harness
            .interrupt
            .wait(|| harness.device.metrics()["disconnects"] == 4)
    );
    harness.device.pause().unwrap();
    harness.device.resume().unwrap();
    harness.device.reset();
    // One that died unnoticed is replaced when the driver comes back.
    let next = place.serve(1);
    harness.activate(VERSION_1);
    assert_eq!(read(&mut harness, 0, 2), 2);
    drop(harness);
    next.join().unwrap().thread.join().unwrap();
}

#[test]
fn what_a_back_end_had_when_it_died_is_done_by_the_next_one_and_only_that() {
    let Some(mut volume) = Volume::new(16) else { return };
    let options = File::options().read(true).write(true).create(true).clone();
    let mut place = Place::new();
    place.disk = options.open(volume.path().join("disk")).unwrap();
    place.disk.write_all_at(&[0; 1 << 16], 0).unwrap();
    place.disk.sync_all().unwrap();
    let (serving, device) = place.serve(1).join_when(|| place.device(1));
    let mut harness = Harness::with_device(device, VERSION_1 | FLUSH);
    volume.freeze();
    // Reads are answered before the writes that came earlier.
    let mut heads = Vec::new();
    for round in 1..=3u8 {
        let parts = [
            header(1, u64::from(round)),
            Part::Read(vec![round; 512]),
            Part::Write(1),
        ];
        heads.push(harness.queues[0].add(&parts));
        assert_eq!(read(&mut harness, 0, 20), 0);
    }
    serving.die();
    let next = place.serve(1);
    harness
        .interrupt
        .wait(|| harness.device.metrics()["reconnects"] == 1);
    next.join().unwrap();
    volume.thaw();
    let mut answered: Vec<_> = heads
        .iter()
        .map(|_| {
            let (head, _, bytes) = harness.next_used(0).expect("an answer of the next back end");
            assert_eq!(bytes, [0]);
            head
        })
        .collect();
    answered.sort_unstable();
    heads.sort_unstable();
    assert_eq!(answered, heads);
    for round in 1..=3 {
        assert_eq!(u64::from(read(&mut harness, 0, round)), round);
    }
}

trait JoinWhen {
    /// Waits for the back end while `make` connects to it.
    fn join_when<T>(self, make: impl FnOnce() -> T) -> (Serving, T);
}

impl JoinWhen for JoinHandle<Serving> {
    fn join_when<T>(self, make: impl FnOnce() -> T) -> (Serving, T) {
        let made = make();
        (self.join().unwrap(), made)
    }
}

#[test]
fn a_back_end_that_returns_with_another_disk_is_told_to_the_driver() {
    let mut place = Place::new();
    let (serving, device) = place.serve(1).join_when(|| place.device(1));
    let mut harness = Harness::with_device(device, VERSION_1 | FLUSH);
    write(&mut harness, 0, 1, 1);
    serving.die();
    place.disk.set_len(2 << 20).unwrap();
    place.disk = place.disk.try_clone().unwrap();
    let _next = place.serve(1);
    assert!(harness.interrupt.wait(|| harness.interrupt.config_changes() == 1));
    let mut capacity = [0; 8];
    harness.device.config().read(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 4096);
}

#[test]
fn back_ends_that_cannot_do_what_is_needed_are_refused_with_the_reason() {
    let place = Place::new();
    let error = |queues| {
        VhostUser::new(Profile::Block { queues }, place.connector())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(error(1).contains("start it first"), "{}", error(1));
    let serving = place.serve(2);
    let few = error(3);
    assert!(few.contains("it has 2, and 3 are asked for"), "{few}");
    serving.join().unwrap().thread.join().unwrap();
    for tag in [String::new(), "x".repeat(37)] {
        let profile = Profile::FileSystem { tag };
        let error = VhostUser::new(profile, place.connector()).err().unwrap();
        assert!(matches!(error, VhostUserError::Tag(_)), "{error}");
    }
}

#[test]
fn private_memory_is_refused_and_not_tried_again() {
    let place = Place::new();
    let _serving = place.serve(1);
    let harness = Harness::with_guest(Guest::private(), place.device(1), VERSION_1);
    assert!(harness.interrupt.wait(|| harness.interrupt.asked_for_reset()));
    assert_eq!(harness.device.metrics()["disconnects"], 0);
}

fn signalled(event: &EventFd) -> bool {
    let end = Instant::now() + PATIENCE;
    while event.read().is_err() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

#[test]
fn interrupts_take_the_direct_way_where_there_is_one_and_follow_it_when_it_moves() {
    let place = Place::new();
    let _serving = place.serve(1);
    let mut harness = Harness::with_device(place.device(1), VERSION_1 | FLUSH);
    write(&mut harness, 0, 1, 1);
    assert!(relayed(&harness, 1));
    let mut before = serde_json::Value::Null;
    for _ in 0..2 {
        let direct = EventFd::new(EFD_NONBLOCK).unwrap();
        harness.interrupt.set_direct(Some(direct.try_clone().unwrap()));
        harness.device.refresh();
        // The worker tells the back end in its own time.
        while direct.read().is_err() {
            harness.queues[0].add(&[header(0, 1), Part::Write(513)]);
            harness.queues[0].kick();
            harness.next_used(0).expect("an answer");
        }
        before = harness.device.metrics()["relayed_interrupts"].clone();
        harness.queues[0].add(&[header(0, 1), Part::Write(513)]);
        harness.queues[0].kick();
        assert!(signalled(&direct));
        harness.next_used(0).expect("an answer");
    }
    harness.device.pause().unwrap();
    assert_eq!(harness.device.metrics()["relayed_interrupts"], before);
}

#[test]
fn network_cards_and_file_systems_have_their_own_configuration() {
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    let net = Profile::Net { mac, mtu: 9000 };
    assert_eq!(net.config_space(&[]), [2, 0, 0, 0, 0, 9, 1, 0, 1, 0, 0x28, 0x23]);
    assert_eq!(net.queue_sizes().len(), 2);
    let tag = "share".to_owned();
    let space = Profile::FileSystem { tag }.config_space(&[]);
    assert_eq!((&space[..6], &space[36..]), (&b"share\0"[..], &[1, 0, 0, 0][..]));
    let block = Profile::Block { queues: 3 };
    assert_eq!(block.config_space(&[9; 60])[32..38], [9, 9, 3, 0, 9, 9]);
}

/// A back end that does no more of the protocol than a test needs.
struct FakeBackEnd {
    stream: UnixStream,
    /// What it says of its disk.
    sectors: u64,
    /// Where it can make requests of its own.
    requests: Option<UnixStream>,
}

/// A message's fields before its body.
fn message(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let header = [request, 1 | flags, body.len() as u32].map(u32::to_ne_bytes);
    [header.as_flattened(), body].concat()
}

impl FakeBackEnd {
    /// Answers messages until a ring is enabled, or there are none any more.
    fn answer(&mut self) {
        loop {
            let mut header = [0; 12];
            let mut fds = [0; 8];
            let mut iovec = [libc::iovec {
                iov_base: header.as_mut_ptr().cast(),
                iov_len: header.len(),
            }];
            // SAFETY: the vector names our own buffer.
            let received = unsafe { self.stream.recv_with_fds(&mut iovec, &mut fds) };
            let Ok((12, count)) = received else { return };
            let [request, _flags, len] =
                [0, 4, 8].map(|at| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap()));
            for fd in &fds[..count] {
                // SAFETY: the kernel has just made the descriptor for us.
                let fd = unsafe { OwnedFd::from_raw_fd(*fd) };
                // SET_BACKEND_REQ_FD.
                if request == 21 {
                    self.requests = Some(fd.into());
                }
            }
            let mut body = vec![0; len as usize];
            self.stream.read_exact(&mut body).unwrap();
            let answer: Vec<u8> = match request {
                // Features: those of the protocol, and version 1. Protocol features: replies, requests, configuration.
                1 => (1u64 << 30 | 1 << 32).to_ne_bytes().to_vec(),
                15 => (1u64 << 3 | 1 << 5 | 1 << 9).to_ne_bytes().to_vec(),
                24 => {
                    body[12..20].copy_from_slice(&self.sectors.to_le_bytes());
                    body
                }
                // Vring base: nothing has been taken.
                11 => body,
                // Before replies are agreed on, nobody waits for one.
                16 => continue,
                _ => vec![0; 8],
            };
            self.stream.write_all(&message(request, 4, &answer)).unwrap();
            // Where the ring is enabled, everything is set up.
            if request == 18 {
                return;
            }
        }
    }
}

#[test]
fn a_change_of_the_back_ends_configuration_reaches_the_driver() {
    let place = Place::new();
    let listener = place.listen();
    let (ready, wait) = sync_channel(0);
    let back_end = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut fake = FakeBackEnd {
            stream,
            sectors: 8,
            requests: None,
        };
        fake.answer();
        wait.recv().unwrap();
        fake.sectors = 16;
        // CONFIG_CHANGE_MSG, with an answer.
        let mut requests = fake.requests.as_ref().unwrap().try_clone().unwrap();
        requests.write_all(&message(2, 8, &[])).unwrap();
        let again = std::thread::spawn(move || fake.answer());
        let mut reply = [0; 20];
        requests.read_exact(&mut reply).unwrap();
        assert_eq!(reply[12..], [0; 8]);
        again.join().unwrap();
    });
    let device = VhostUser::new(Profile::Block { queues: 1 }, place.connector()).unwrap();
    let harness = Harness::with_device(Box::new(Virtio::new(device)), VERSION_1);
    ready.send(()).unwrap();
    assert!(harness.interrupt.wait(|| harness.interrupt.config_changes() == 1));
    let mut capacity = [0; 8];
    harness.device.config().read(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), 16);
    drop(harness);
    back_end.join().unwrap();
}

#[test]
fn a_back_end_that_hangs_does_not_hang_whoever_stops_the_device() {
    let place = Place::new();
    let listener = place.listen();
    let back_end = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut fake = FakeBackEnd {
            stream,
            sectors: 8,
            requests: None,
        };
        fake.answer();
        fake
    });
    let mut harness = Harness::with_device(place.device(1), VERSION_1);
    let _silent_now = back_end.join().unwrap();
    harness.device.pause().unwrap();
    assert_eq!(harness.device.metrics()["disconnects"], 1);
    harness.device.reset();
}

#[test]
fn a_back_end_that_says_nothing_is_given_up() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let hangup = Arc::default();
    let profile = Profile::Block { queues: 1 };
    let result = open_in_time(ours, &needs(&profile, 0), &hangup, Duration::from_millis(20));
    assert!(matches!(result, Err(VhostUserError::Silent(_))));
    drop(theirs);
}
