//! The host's storage fails: the guest gets an error for each request, and the device goes on.

use super::request::Status;
use super::*;
use crate::testing::{Harness, Part};
use crate::virtio::device::Reset;
use std::fs::{File, OpenOptions};
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const FLUSH: u64 = 1 << spec::VIRTIO_BLK_F_FLUSH;
const ERROR: u8 = Status::IoError as u8;

fn header(kind: u32, sector: u64) -> Part {
    Part::Read([&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat())
}

fn with_each_engine(story: impl Fn(EngineKind)) {
    for engine in [EngineKind::Auto, EngineKind::Threads] {
        story(engine);
    }
}

fn device(engine: EngineKind, file: File) -> Harness {
    let config = Config {
        engine,
        ..Config::default()
    };
    let block = Block::new(config, vec![DiskFile::raw(file).unwrap()]).unwrap();
    Harness::new(block, FLUSH)
}

fn write(harness: &mut Harness, sector: u64, len: usize) -> u8 {
    let parts = [header(1, sector), Part::Read(vec![1; len]), Part::Write(1)];
    harness.request(0, &parts).1[0]
}

#[test]
fn a_file_that_is_cut_short_fails_reads_behind_its_end_only() {
    with_each_engine(|engine| {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let mut harness = device(engine, file.try_clone().unwrap());
        file.set_len(6000).unwrap();
        // Half of this is there.
        for (sector, expected) in [(8, ERROR), (100, ERROR), (0, 0)] {
            let (_, bytes) = harness.request(0, &[header(0, sector), Part::Write(4096), Part::Write(1)]);
            assert_eq!(bytes[4096], expected, "{sector}");
        }
        // A write makes it long enough again.
        assert_eq!(write(&mut harness, 1000, 512), 0);
        assert_eq!(harness.device.metrics()["failures"], 2);
    });
}

#[test]
fn writes_and_flushes_that_the_host_refuses_are_errors_and_the_rest_goes_on() {
    with_each_engine(|engine| {
        // Open for reading only, while the device believes that it may write.
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(1 << 20).unwrap();
        let mut harness = device(engine, File::open(named.path()).unwrap());
        for _ in 0..3 {
            assert_eq!(write(&mut harness, 0, 4096), ERROR);
            let (_, bytes) = harness.request(0, &[header(0, 0), Part::Write(512), Part::Write(1)]);
            assert_eq!(bytes[512], 0);
        }
        // Files that cannot be synced stand for a flush that fails.
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap();
        let mut harness = device(engine, null);
        assert_eq!(harness.request(0, &[header(4, 0), Part::Write(1)]).1, [ERROR]);
        assert_eq!(harness.request(0, &[header(4, 0), Part::Write(1)]).1, [ERROR]);
    });
}

/// A file whose file system makes no zeroes by itself.
fn file_without_erasure() -> File {
    // SAFETY: the name is a string, and the descriptor belongs to nobody else.
    unsafe { File::from_raw_fd(libc::memfd_create(c"disk".as_ptr(), libc::MFD_CLOEXEC)) }
}

fn zeroing(sector: u64, count: u32) -> [Part; 3] {
    let segment = [&sector.to_le_bytes()[..], &count.to_le_bytes(), &[0; 4]].concat();
    [header(13, 0), Part::Read(segment), Part::Write(1)]
}

#[test]
fn zeroes_are_written_where_the_file_system_cannot_make_them() {
    with_each_engine(|engine| {
        let file = file_without_erasure();
        file.write_all_at(&[1; 1 << 20], 0).unwrap();
        let mut harness = device(engine, file.try_clone().unwrap());
        // An odd number of steps, and a part of one.
        for (sector, count) in [(3, 1), (100, 1700)] {
            assert_eq!(harness.request(0, &zeroing(sector, count)).1, [0]);
        }
        let mut bytes = vec![0; 1 << 20];
        file.read_exact_at(&mut bytes, 0).unwrap();
        for (sector, bytes) in bytes.chunks(512).enumerate() {
            let zeroed = sector == 3 || (100..1800).contains(&sector);
            assert!(bytes.iter().all(|byte| (*byte == 0) == zeroed), "{sector}");
        }
        assert_eq!(harness.device.metrics()["zeroings"], 2);
    });
}

#[test]
fn a_disk_serves_others_while_it_writes_zeroes() {
    with_each_engine(|engine| {
        let file = file_without_erasure();
        let size = u64::from(request::MAX_WRITE_ZEROES_SECTORS) * SECTOR;
        file.write_all_at(&vec![1; size as usize], 0).unwrap();
        let mut harness = device(engine, file.try_clone().unwrap());
        let long = harness.queues[0].add(&zeroing(0, request::MAX_WRITE_ZEROES_SECTORS));
        let flush = harness.queues[0].add(&[header(4, 0), Part::Write(1)]);
        harness.queues[0].kick();
        let order = [(); 2].map(|()| harness.next_used(0).unwrap().0);
        assert_eq!(order, [flush, long]);
        // A reset does not wait for the rest.
        file.write_all_at(&vec![1; size as usize], 0).unwrap();
        harness.queues[0].add(&zeroing(0, request::MAX_WRITE_ZEROES_SECTORS));
        harness.queues[0].kick();
        assert_eq!(harness.device.reset(), Reset::Done);
        let (mut before, mut after) = (vec![0; size as usize], vec![0; size as usize]);
        file.read_exact_at(&mut before, 0).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        file.read_exact_at(&mut after, 0).unwrap();
        assert!(before == after, "a disk that was reset still writes");
    });
}
