//! Against a front end that sends the protocol's messages one by one.

use super::memory::REGIONS_MAX;
use super::*;
use crate::testing::{DriverQueue, Guest, MEMORY_SIZE, PATIENCE, Part};
use crate::virtio::block::{self, Block};
use crate::virtio::worker::{Virtio, no_hook};
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread::JoinHandle;
use std::time::Instant;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::GuestMemoryBackend;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

type Served = (Option<Box<dyn VirtioDevice>>, Result<()>);

const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;
const PROTOCOL_BIT: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

fn disk(queues: u16) -> Box<dyn VirtioDevice> {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let config = block::Config {
        serial: "far-away".to_owned(),
        queues,
        ..Default::default()
    };
    Box::new(Virtio::new(
        Block::new(config, vec![block::DiskFile::raw(file).unwrap()]).unwrap(),
    ))
}

/// A front end with a guest, connected to a device that is served on a thread.
struct FrontEnd {
    guest: Guest,
    connection: Frontend,
    raw: UnixStream,
    server: JoinHandle<Served>,
    features: u64,
}

impl FrontEnd {
    fn new(device: Box<dyn VirtioDevice>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || serve(device, theirs, no_hook()));
        let raw = ours.try_clone().unwrap();
        let mut connection = Frontend::from_stream(ours, 8);
        let features = connection.get_features().unwrap();
        let offered = connection.get_protocol_features().unwrap();
        connection.set_protocol_features(offered).unwrap();
        connection.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        connection.set_owner().unwrap();
        Self {
            guest: Guest::new(),
            connection,
            raw,
            server,
            features,
        }
    }

    /// The guest's memory as one region that the front end has at an address of its own.
    fn region(&self) -> VhostUserMemoryRegionInfo {
        let memory = self.guest.memory().memory().into_inner();
        let region = memory.iter().next().unwrap();
        VhostUserMemoryRegionInfo::from_guest_region(region).unwrap()
    }

    fn start(&mut self, features: u64) -> (DriverQueue, EventFd) {
        self.connection.set_features(features).unwrap();
        self.connection.set_mem_table(&[self.region()]).unwrap();
        self.start_ring(0)
    }

    fn start_ring(&mut self, index: usize) -> (DriverQueue, EventFd) {
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        let queue = DriverQueue::new(&self.guest, 64, kick.try_clone().unwrap());
        self.place(index, &queue);
        self.connection.set_vring_base(index, 0).unwrap();
        let call = EventFd::new(EFD_NONBLOCK).unwrap();
        self.connection.set_vring_call(index, &call).unwrap();
        self.connection.set_vring_kick(index, &kick).unwrap();
        self.connection.set_vring_enable(index, true).unwrap();
        (queue, call)
    }

    fn place(&self, index: usize, queue: &DriverQueue) {
        let user = |guest: u64| self.region().userspace_addr + guest;
        self.connection.set_vring_num(index, queue.state.size).unwrap();
        let config = VringConfigData {
            queue_max_size: queue.state.size,
            queue_size: queue.state.size,
            desc_table_addr: user(queue.state.descriptor_table),
            avail_ring_addr: user(queue.state.available_ring),
            used_ring_addr: user(queue.state.used_ring),
            ..Default::default()
        };
        self.connection.set_vring_addr(index, &config).unwrap();
    }

    /// Ends the connection; gives back what the server gave back.
    fn end(self) -> Served {
        drop((self.connection, self.raw));
        self.server.join().unwrap()
    }
}

fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK).unwrap()
}

fn wait(call: &EventFd) {
    let end = Instant::now() + PATIENCE;
    while call.read().is_err() {
        assert!(Instant::now() < end, "no interrupt came");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Asks a block device for its serial number.
fn serial(queue: &mut DriverQueue, call: &EventFd) -> String {
    let request = [&8u32.to_le_bytes()[..], &[0; 12]].concat();
    queue.add(&[Part::Read(request), Part::Write(20), Part::Write(1)]);
    queue.kick();
    wait(call);
    let (_, len, bytes) = queue.poll().expect("an answer with the interrupt");
    assert_eq!(len, 21);
    String::from_utf8_lossy(&bytes[..20])
        .trim_end_matches('\0')
        .to_owned()
}

#[test]
fn a_front_end_finds_a_device_and_its_queues_work() {
    let mut front_end = FrontEnd::new(disk(1));
    assert_eq!(front_end.connection.get_queue_num().unwrap(), 1);
    let (_, config) = front_end
        .connection
        .get_config(0, 60, VhostUserConfigFlags::empty(), &[0; 60])
        .unwrap();
    assert_eq!(config[..8], 2048u64.to_le_bytes(), "the disk's sectors");
    let (mut queue, call) = front_end.start(front_end.features);
    for _ in 0..100 {
        queue.want_interrupt();
        assert_eq!(serial(&mut queue, &call), "far-away");
    }
    let (device, result) = front_end.end();
    result.unwrap();
    // The next front end is served as well, with a driver that is content with less.
    let mut front_end = FrontEnd::new(device.unwrap());
    let (mut queue, call) = front_end.start(VERSION_1 | PROTOCOL_BIT);
    assert_eq!(serial(&mut queue, &call), "far-away");
    front_end.end().1.unwrap();
}

#[test]
fn a_stopped_ring_says_where_it_stands_and_goes_on_there() {
    let mut front_end = FrontEnd::new(disk(1));
    let (mut queue, call) = front_end.start(VERSION_1 | PROTOCOL_BIT);
    for round in 1..=3 {
        serial(&mut queue, &call);
        let base = front_end.connection.get_vring_base(0).unwrap();
        assert_eq!(base, round);
        // What is added now is not touched until the ring is started again.
        front_end.connection.set_vring_base(0, base as u16).unwrap();
        front_end.place(0, &queue);
        let kick = EventFd::new(EFD_NONBLOCK).unwrap();
        queue.set_notify(kick.try_clone().unwrap());
        front_end.connection.set_vring_kick(0, &kick).unwrap();
    }
    assert_eq!(serial(&mut queue, &call), "far-away");
    front_end.end().1.unwrap();
}

#[test]
fn rings_start_and_stop_one_by_one() {
    let mut front_end = FrontEnd::new(disk(3));
    let (mut first, first_call) = front_end.start(VERSION_1 | PROTOCOL_BIT);
    let (mut third, third_call) = front_end.start_ring(2);
    assert_eq!(serial(&mut first, &first_call), "far-away");
    assert_eq!(serial(&mut third, &third_call), "far-away");
    front_end.connection.get_vring_base(0).unwrap();
    assert_eq!(serial(&mut third, &third_call), "far-away");
    front_end.connection.set_vring_enable(2, false).unwrap();
    front_end.connection.set_vring_enable(2, true).unwrap();
    assert_eq!(serial(&mut third, &third_call), "far-away");
    front_end.end().1.unwrap();
}

#[test]
fn interrupts_go_to_the_descriptor_that_was_named_last() {
    let mut front_end = FrontEnd::new(disk(1));
    let (mut queue, old) = front_end.start(VERSION_1 | PROTOCOL_BIT);
    serial(&mut queue, &old);
    let new = EventFd::new(EFD_NONBLOCK).unwrap();
    front_end.connection.set_vring_call(0, &new).unwrap();
    serial(&mut queue, &new);
    assert!(old.read().is_err());
    front_end.end().1.unwrap();
}

#[test]
fn memory_comes_and_goes_while_rings_run() {
    let mut front_end = FrontEnd::new(disk(1));
    let (mut queue, call) = front_end.start(VERSION_1 | PROTOCOL_BIT);
    let slots = front_end.connection.get_max_mem_slots().unwrap();
    assert_eq!(slots, REGIONS_MAX as u64);
    let file = tempfile::tempfile().unwrap();
    file.set_len(0x1000).unwrap();
    let extra = VhostUserMemoryRegionInfo {
        guest_phys_addr: MEMORY_SIZE,
        memory_size: 0x1000,
        userspace_addr: 0x1000,
        mmap_offset: 0,
        mmap_handle: file.as_raw_fd(),
    };
    front_end.connection.add_mem_region(&extra).unwrap();
    assert_eq!(serial(&mut queue, &call), "far-away");
    front_end.connection.remove_mem_region(&extra).unwrap();
    assert_eq!(serial(&mut queue, &call), "far-away");
    front_end.end().1.unwrap();
}

#[test]
fn rings_that_are_enabled_before_features_are_agreed_on_are_enabled_and_answered() {
    for (need_reply, ring, answers) in [(0, 0, false), (8, 0, true), (8, 7, true)] {
        let mut front_end = FrontEnd::new(disk(1));
        // As QEMU does it; our own front end would not let us.
        front_end
            .raw
            .write_all(&[18u32, 1 | need_reply, 8, ring, 1].map(u32::to_ne_bytes).concat())
            .unwrap();
        if answers {
            let mut answer = [0; 20];
            front_end.raw.read_exact(&mut answer).unwrap();
            let refused = u32::from(ring != 0);
            assert_eq!(
                answer,
                *[18u32, 5, 8, refused, 0].map(u32::to_ne_bytes).as_flattened()
            );
        }
        if ring != 0 {
            assert!(front_end.end().1.is_err());
            continue;
        }
        front_end
            .connection
            .set_features(VERSION_1 | PROTOCOL_BIT)
            .unwrap();
        front_end.connection.set_mem_table(&[front_end.region()]).unwrap();
        let (kick, call) = (event(), event());
        let mut queue = DriverQueue::new(&front_end.guest, 64, kick.try_clone().unwrap());
        front_end.place(0, &queue);
        front_end.connection.set_vring_call(0, &call).unwrap();
        front_end.connection.set_vring_kick(0, &kick).unwrap();
        assert_eq!(serial(&mut queue, &call), "far-away");
        front_end.end().1.unwrap();
    }
}

#[test]
fn a_reset_device_starts_anew() {
    let mut front_end = FrontEnd::new(disk(1));
    let (mut queue, call) = front_end.start(VERSION_1 | PROTOCOL_BIT);
    serial(&mut queue, &call);
    front_end.connection.reset_device().unwrap();
    assert_eq!(front_end.connection.get_vring_base(0).unwrap(), 0);
    let (mut queue, call) = front_end.start(VERSION_1 | PROTOCOL_BIT);
    assert_eq!(serial(&mut queue, &call), "far-away");
    front_end.end().1.unwrap();
}

/// Something that a front end must not do, with the negative answer that it got.
type Offence = fn(&mut FrontEnd) -> vhost::Result<()>;

#[test]
fn what_cannot_be_is_refused_and_ends_the_connection() {
    let offences: &[(&str, Offence)] = &[
        ("features", |end| end.connection.set_features(1 << 60 | VERSION_1)),
        ("a size", |end| end.connection.set_vring_num(0, 3)),
        ("a large size", |end| end.connection.set_vring_num(0, 0x8000)),
        ("a ring", |end| end.connection.set_vring_num(7, 64)),
        ("a base of no ring", |end| end.connection.set_vring_base(1, 0)),
        ("enabling no ring", |end| {
            end.connection.set_features(VERSION_1 | PROTOCOL_BIT)?;
            end.connection.set_vring_enable(1, true)
        }),
        ("a call for no ring", |end| {
            end.connection.set_vring_call(7, &event())
        }),
        ("an error for no ring", |end| {
            end.connection.set_vring_err(7, &event())
        }),
        ("a ring outside of memory", |end| {
            end.connection.set_features(VERSION_1 | PROTOCOL_BIT)?;
            end.connection.set_vring_addr(0, &VringConfigData::default())?;
            end.connection.set_vring_enable(0, true)?;
            end.connection.set_vring_kick(0, &event())
        }),
        ("a legacy driver", |end| {
            end.connection.set_features(PROTOCOL_BIT)?;
            end.connection.set_mem_table(&[end.region()])?;
            let queue = DriverQueue::new(&end.guest, 64, event());
            end.place(0, &queue);
            end.connection.set_vring_kick(0, &event())?;
            end.connection.set_vring_enable(0, true)
        }),
        ("overlapping memory", |end| {
            end.connection.set_mem_table(&[end.region()])?;
            end.connection.add_mem_region(&end.region()).map(drop)
        }),
        ("removing memory that is not there", |end| {
            end.connection.remove_mem_region(&end.region())
        }),
        ("a record that is shorter than it says", |end| {
            let asked = VhostUserInflight::new(0, 0, 1, 64);
            let (made, file) = end.connection.get_inflight_fd(&asked)?;
            assert!(made.mmap_size >= 64 * 16);
            file.set_len(64).unwrap();
            end.connection.set_inflight_fd(&made, file.as_raw_fd())
        }),
        ("a record that says that it is short", |end| {
            let asked = VhostUserInflight::new(0, 0, 1, 64);
            let (mut made, file) = end.connection.get_inflight_fd(&asked)?;
            made.mmap_size -= 1;
            end.connection.set_inflight_fd(&made, file.as_raw_fd())
        }),
    ];
    for (what, offence) in offences {
        let mut front_end = FrontEnd::new(disk(1));
        let answer = offence(&mut front_end);
        assert!(
            matches!(
                answer,
                Err(vhost::Error::VhostUserProtocol(Error::BackendInternalError))
            ),
            "{what}: {answer:?}"
        );
        let (device, result) = front_end.end();
        assert!(result.is_err() && device.is_some(), "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Whatever bytes arrive, the server ends in order and its device is as good as new.
    #[test]
    fn any_bytes_end_the_connection_and_nothing_else(messages in prop::collection::vec(
        (0u32..45, prop::collection::vec(any::<u8>(), 0..48)), 1..12)) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || serve(disk(2), theirs, no_hook()));
        for (request, body) in messages {
            let header = [request, 1, body.len() as u32].map(u32::to_ne_bytes);
            // The server may have hung up by now.
            let _ = ours.write_all(&[header.as_flattened(), &body].concat());
        }
        drop(ours);
        let (device, _) = server.join().unwrap();
        let mut front_end = FrontEnd::new(device.unwrap());
        let (mut queue, call) = front_end.start(VERSION_1 | PROTOCOL_BIT);
        prop_assert_eq!(serial(&mut queue, &call), "far-away");
    }
}
