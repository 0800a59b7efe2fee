use super::request::Status;
use super::*;
use crate::testing::{Harness, Part};
use crate::virtio::device::VirtioDevice;
use crate::virtio::worker::Virtio;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};

const FLUSH: u64 = 1 << spec::VIRTIO_BLK_F_FLUSH;
const SIZE: u64 = 1 << 20;

fn disk() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    file
}

/// A raw file as the device takes it.
fn raw(file: &File) -> Vec<DiskFile> {
    vec![DiskFile::raw(file.try_clone().unwrap()).unwrap()]
}

fn config(engine: EngineKind) -> Config {
    Config {
        serial: "virga-1".to_owned(),
        engine,
        ..Config::default()
    }
}

fn header(kind: u32, sector: u64) -> Part {
    Part::Read([&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat())
}

/// Runs a story with each way to reach the host's kernel.
fn with_each_engine(story: impl Fn(Harness, &File)) {
    for engine in [EngineKind::Threads, EngineKind::Auto] {
        let file = disk();
        let block = Block::new(config(engine), raw(&file)).unwrap();
        story(Harness::new(block, FLUSH), &file);
    }
}

fn write(harness: &mut Harness, sector: u64, data: Vec<u8>) -> u8 {
    let (len, status) = harness.request(0, &[header(1, sector), Part::Read(data), Part::Write(1)]);
    assert_eq!(len, 1);
    status[0]
}

#[test]
fn what_is_written_is_on_the_disk_and_can_be_read_back() {
    with_each_engine(|mut harness, file| {
        let data: Vec<u8> = (0..8192u32).map(|byte| byte as u8).collect();
        assert_eq!(write(&mut harness, 3, data.clone()), 0);
        assert_eq!(harness.request(0, &[header(4, 0), Part::Write(1)]), (1, vec![0]));
        let mut on_disk = vec![0; 8192];
        file.read_exact_at(&mut on_disk, 3 * 512).unwrap();
        assert_eq!(on_disk, data);
        // Scattered over several buffers, the last of which has the status, too.
        let parts = [
            header(0, 3),
            Part::Write(512),
            Part::Write(4096),
            Part::Write(8192 - 4608 + 1),
        ];
        let (len, bytes) = harness.request(0, &parts);
        assert_eq!(len, 8193);
        assert_eq!(bytes[..8192], data);
        assert_eq!(bytes[8192], 0);
        let metrics = harness.device.metrics();
        assert_eq!(
            (&metrics["written_bytes"], &metrics["flushes"]),
            (&8192.into(), &1.into())
        );
    });
}

#[test]
fn many_requests_at_once_all_complete() {
    with_each_engine(|mut harness, file| {
        harness.queues[0].set_indirect(true);
        for round in 0..4u64 {
            for index in 0..200u64 {
                let byte = (round * 50 + index) as u8;
                harness.queues[0].add(&[header(1, index * 8), Part::Read(vec![byte; 4096]), Part::Write(1)]);
            }
            harness.queues[0].kick();
            for _ in 0..200 {
                assert_eq!(harness.next_used(0).unwrap().2, [0]);
            }
            let mut byte = [0];
            file.read_exact_at(&mut byte, 199 * 4096 + 17).unwrap();
            assert_eq!(byte[0], (round * 50 + 199) as u8);
        }
    });
}

#[test]
fn the_serial_number_is_told() {
    with_each_engine(|mut harness, _| {
        let (len, bytes) = harness.request(0, &[header(8, 0), Part::Write(20), Part::Write(1)]);
        assert_eq!(len, 21);
        assert_eq!(&bytes[..8], b"virga-1\0");
    });
}

#[test]
fn discarded_blocks_give_their_space_back_and_zeroed_ones_read_zero() {
    with_each_engine(|mut harness, file| {
        assert_eq!(write(&mut harness, 0, vec![7; 512 * 1024]), 0);
        file.sync_all().unwrap();
        let before = file.metadata().unwrap().blocks();
        let segment = |sector: u64, count: u32, flags: u32| {
            Part::Read(
                [
                    &sector.to_le_bytes()[..],
                    &count.to_le_bytes(),
                    &flags.to_le_bytes(),
                ]
                .concat(),
            )
        };
        let discard = [header(11, 0), segment(0, 512, 0), Part::Write(1)];
        assert_eq!(harness.request(0, &discard).1, [0]);
        for flags in [0, 1] {
            let zero = [
                header(13, 0),
                segment(512 + u64::from(flags) * 8, 8, flags),
                Part::Write(1),
            ];
            assert_eq!(harness.request(0, &zero).1, [0]);
        }
        assert!(file.metadata().unwrap().blocks() < before);
        let mut bytes = vec![1; 3 * 4096];
        file.read_exact_at(&mut bytes, 512 * 512).unwrap();
        assert_eq!(bytes[..8192], [0; 8192]);
        assert_eq!(bytes[8192..], [7; 4096]);
        // Unmap makes no sense in a discard, and there are no other flags.
        for (kind, flags) in [(11, 1), (13, 2)] {
            let parts = [header(kind, 0), segment(0, 8, flags), Part::Write(1)];
            assert_eq!(harness.request(0, &parts).1, [Status::Unsupported as u8]);
        }
    });
}

#[test]
fn requests_beyond_the_end_and_partial_sectors_fail_without_harm() {
    with_each_engine(|mut harness, file| {
        for (sector, len) in [
            (2048, 512),
            (2047, 1024),
            (u64::MAX, 512),
            (u64::MAX / 512, 512),
            (0, 100),
        ] {
            assert_eq!(
                write(&mut harness, sector, vec![1; len]),
                Status::IoError as u8,
                "{sector} {len}"
            );
        }
        assert_eq!(file.metadata().unwrap().len(), SIZE);
        assert_eq!(
            harness.request(0, &[header(99, 0), Part::Write(1)]).1,
            [Status::Unsupported as u8]
        );
        assert_eq!(
            harness.request(0, &[Part::Read(vec![0; 3]), Part::Write(1)]).1,
            [Status::IoError as u8]
        );
        // Data where the guest has no memory.
        let status = harness.guest.alloc(1);
        let head = harness.guest.alloc(16);
        harness.queues[0].add_raw(&[(head, 16, false), (1 << 40, 512, true), (status, 1, true)]);
        harness.queues[0].kick();
        assert!(harness.interrupt.wait(|| harness.guest.read(status, 1) == [1]));
        assert!(!harness.interrupt.asked_for_reset());
        assert_eq!(harness.device.metrics()["failures"], 8);
    });
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let file = disk();
    let config = Config {
        read_only: true,
        ..config(EngineKind::Auto)
    };
    let block = Block::new(config, raw(&file)).unwrap();
    assert_ne!(block.features() & 1 << spec::VIRTIO_BLK_F_RO, 0);
    assert_eq!(block.features() & 1 << spec::VIRTIO_BLK_F_DISCARD, 0);
    let mut harness = Harness::new(block, FLUSH);
    assert_eq!(write(&mut harness, 0, vec![1; 512]), Status::IoError as u8);
    for kind in [11, 13] {
        let parts = [header(kind, 0), Part::Read(vec![0; 16]), Part::Write(1)];
        assert_eq!(harness.request(0, &parts).1, [Status::IoError as u8]);
    }
    assert_eq!(harness.request(0, &[header(0, 0), Part::Write(513)]).0, 513);
}

#[test]
fn a_request_without_room_for_a_status_breaks_the_queue_until_reset() {
    let file = disk();
    let mut harness = Harness::new(Block::new(config(EngineKind::Auto), raw(&file)).unwrap(), FLUSH);
    harness.queues[0].add(&[header(4, 0)]);
    harness.queues[0].kick();
    assert!(harness.interrupt.wait(|| harness.interrupt.asked_for_reset()));
    harness.device.reset();
    harness.activate(FLUSH);
    assert_eq!(harness.request(0, &[header(4, 0), Part::Write(1)]), (1, vec![0]));
}

#[test]
fn a_reset_with_requests_in_flight_waits_for_them_and_the_device_works_again() {
    with_each_engine(|mut harness, file| {
        for round in 1..20u8 {
            for index in 0..64 {
                harness.queues[0].add(&[
                    header(1, index * 8),
                    Part::Read(vec![round; 4096]),
                    Part::Write(1),
                ]);
            }
            harness.queues[0].kick();
            harness.device.reset();
            harness.activate(FLUSH);
        }
        assert_eq!(write(&mut harness, 0, vec![0xee; 512]), 0);
        let mut bytes = [0; 512];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [0xee; 512]);
    });
}

#[test]
fn a_paused_device_goes_on_where_it_was() {
    with_each_engine(|mut harness, _| {
        assert_eq!(write(&mut harness, 0, vec![1; 512]), 0);
        harness.device.pause().unwrap();
        let states = harness.device.queue_states();
        assert_eq!((states[0].next_available, states[0].next_used), (1, 1));
        let state: State = serde_json::from_value(harness.device.save().unwrap()).unwrap();
        assert_eq!(state.size_bytes, SIZE);
        harness.queues[0].add(&[header(0, 0), Part::Write(513)]);
        harness.queues[0].kick();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(harness.queues[0].in_flight(), 1);
        harness.device.resume().unwrap();
        assert_eq!(harness.next_used(0).unwrap().2[..512], [1; 512]);
    });
}

#[test]
fn a_driver_without_flushes_gets_durable_writes() {
    let file = disk();
    let block = Block::new(config(EngineKind::Auto), raw(&file)).unwrap();
    let mut harness = Harness::new(block, 0);
    assert_eq!(write(&mut harness, 0, vec![5; 4096]), 0);
    let mut bytes = [0; 4096];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [5; 4096]);
}

#[test]
fn a_disk_that_shrinks_gives_errors_and_no_hang() {
    with_each_engine(|mut harness, file| {
        file.set_len(4096).unwrap();
        let (_, bytes) = harness.request(0, &[header(0, 0), Part::Write(8193)]);
        assert_eq!(bytes[8192], Status::IoError as u8);
    });
}

#[test]
fn several_queues_are_served() {
    let file = disk();
    let config = Config {
        queues: 4,
        ..config(EngineKind::Auto)
    };
    let block = Block::new(config, raw(&file)).unwrap();
    assert_ne!(block.features() & 1 << spec::VIRTIO_BLK_F_MQ, 0);
    let mut harness = Harness::new(block, FLUSH | 1 << spec::VIRTIO_BLK_F_MQ);
    for queue in 0..4 {
        let data = Part::Read(vec![queue as u8; 512]);
        assert_eq!(
            harness
                .request(queue, &[header(1, queue as u64), data, Part::Write(1)])
                .1,
            [0]
        );
    }
    let (_, bytes) = harness.request(3, &[header(0, 0), Part::Write(2049)]);
    assert_eq!([bytes[0], bytes[512], bytes[1024], bytes[1536]], [0, 1, 2, 3]);
}

#[test]
fn the_configuration_space_tells_size_and_limits() {
    let file = disk();
    file.set_len(SIZE + 100).unwrap();
    let device = Virtio::new(Block::new(config(EngineKind::Threads), raw(&file)).unwrap());
    let mut capacity = [0; 8];
    device.config().read(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SIZE / 512);
    let mut segments = [0; 4];
    device.config().read(12, &mut segments);
    assert_eq!(u32::from_le_bytes(segments), 254);
}

#[test]
fn impossible_configurations_are_refused_with_the_reason() {
    let long = Config {
        serial: "x".repeat(21),
        ..Config::default()
    };
    assert!(Block::new(long, raw(&disk())).is_err_and(|error| error.to_string().contains("xxx")));
    for queues in [0, 33] {
        let config = Config {
            queues,
            ..Config::default()
        };
        assert!(matches!(
            Block::new(config, raw(&disk())),
            Err(BlockError::Queues(_))
        ));
    }
    let state = State {
        config: Config::default(),
        size_bytes: 7,
        write_back: true,
    };
    assert!(matches!(
        Block::restore(state, raw(&disk())),
        Err(BlockError::SizeChanged {
            saved: 7,
            actual: SIZE
        })
    ));
}

#[test]
fn a_limited_disk_slows_down_and_loses_nothing() {
    for engine in [EngineKind::Threads, EngineKind::Auto] {
        let limits = crate::virtio::rate_limiter::Limits {
            bytes_per_second: std::num::NonZeroU64::new(10 << 20),
            ..Default::default()
        };
        let block = Block::new(
            Config {
                limits,
                ..config(engine)
            },
            raw(&disk()),
        )
        .unwrap();
        let mut harness = Harness::new(block, FLUSH);
        let start = std::time::Instant::now();
        for index in 0..32 {
            harness.queues[0].add(&[
                header(1, index * 60),
                Part::Read(vec![1; 128 * 512]),
                Part::Write(1),
            ]);
        }
        harness.queues[0].kick();
        for _ in 0..32 {
            assert_eq!(harness.next_used(0).unwrap().1, 1);
        }
        // Two megabytes, of which one may pass at once.
        assert!(start.elapsed() >= std::time::Duration::from_millis(80));
    }
}

/// Lets `io_uring_setup` fail with EPERM on this thread, as container runtimes and hardened hosts do.
fn forbid_io_uring() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let forbidden = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut filter = [
        // The number of the system call is at offset 0.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_io_uring_setup as u32,
        ),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, forbidden),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: both calls affect this thread only; the program lives for the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(
            libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program
            ),
            0
        );
    }
}

#[test]
fn where_io_uring_is_forbidden_plain_system_calls_do() {
    let story = || {
        forbid_io_uring();
        assert!(matches!(
            Block::new(config(EngineKind::IoUring), raw(&disk())),
            Err(BlockError::Uring(_))
        ));
        let mut harness = Harness::new(Block::new(config(EngineKind::Auto), raw(&disk())).unwrap(), FLUSH);
        assert_eq!(write(&mut harness, 1, vec![3; 512]), 0);
        assert_eq!(
            harness.request(0, &[header(0, 1), Part::Write(513)]).1[..512],
            [3; 512]
        );
    };
    std::thread::spawn(story).join().unwrap();
}
