//! The host's storage fails: the guest gets an error for each request, and the device goes on.

use super::request::Status;
use super::*;
use crate::testing::{Harness, Part};
use std::fs::{File, OpenOptions};

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
