//! Disks whose host file hangs: it lies on a file system that is frozen, so writes to it stay in the kernel.

use super::*;
use crate::testing::{Harness, PATIENCE, Part, Volume};
use crate::virtio::device::{DeviceError, Reset};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const FLUSH: u64 = 1 << spec::VIRTIO_BLK_F_FLUSH;

fn header(kind: u32, sector: u64) -> Part {
    Part::Read([&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat())
}

fn add_write(harness: &mut Harness, sector: u64, byte: u8) {
    harness.queues[0].add(&[header(1, sector), Part::Read(vec![byte; 4096]), Part::Write(1)]);
    harness.queues[0].kick();
}

/// Reads, which shows that the device has taken what came before.
fn read(harness: &mut Harness) {
    harness.queues[0].add(&[header(0, 400), Part::Write(513)]);
    harness.queues[0].kick();
    assert_eq!(harness.next_used(0).unwrap().1, 513);
}

fn wait(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A disk on the volume for each engine, and one story after the other.
fn with_each_engine(story: impl Fn(Harness, &mut Volume)) {
    for engine in [EngineKind::Auto, EngineKind::Threads] {
        let Some(mut volume) = Volume::new(16) else { return };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(volume.path().join("disk"))
            .unwrap();
        file.write_all_at(&[7; 64 * 4096], 0).unwrap();
        file.sync_all().unwrap();
        let config = Config {
            engine,
            ..Config::default()
        };
        let block = Block::new(config, vec![DiskFile::raw(file).unwrap()]).unwrap();
        story(Harness::new(block, FLUSH), &mut volume);
    }
}

#[test]
fn a_write_that_hangs_holds_up_no_read() {
    with_each_engine(|mut harness, volume| {
        volume.freeze();
        add_write(&mut harness, 0, 1);
        for _ in 0..10 {
            read(&mut harness);
        }
        volume.thaw();
        assert_eq!(harness.next_used(0).unwrap().2, [0]);
    });
}

#[test]
fn a_reset_is_over_when_the_kernel_has_let_go_of_the_last_write() {
    with_each_engine(|mut harness, volume| {
        volume.freeze();
        for sector in 0..3 {
            add_write(&mut harness, 8 * sector, 1);
        }
        read(&mut harness);
        // With these there are more than threads.
        for sector in 3..20 {
            add_write(&mut harness, 8 * sector, 1);
        }
        assert_eq!(harness.device.reset(), Reset::Pending);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(harness.device.reset(), Reset::Pending);
        volume.thaw();
        wait(|| harness.device.reset() == Reset::Done);
        let abandoned = harness.device.metrics()["abandoned"].as_u64().unwrap();
        assert!((3..=20).contains(&abandoned), "{abandoned}");
        harness.activate(FLUSH);
        let data = Part::Read(vec![9; 4096]);
        assert_eq!(harness.request(0, &[header(1, 0), data, Part::Write(1)]).1, [0]);
        let (_, bytes) = harness.request(0, &[header(0, 0), Part::Write(513)]);
        assert_eq!(bytes[..512], [9; 512]);
    });
}

#[test]
fn a_disk_that_hangs_is_not_paused_and_nothing_is_lost() {
    with_each_engine(|mut harness, volume| {
        volume.freeze();
        add_write(&mut harness, 0, 3);
        read(&mut harness);
        assert!(matches!(harness.device.pause(), Err(DeviceError::Busy { .. })));
        add_write(&mut harness, 8, 4);
        volume.thaw();
        for _ in 0..2 {
            assert_eq!(harness.next_used(0).unwrap().2, [0]);
        }
        harness.device.pause().unwrap();
        harness.device.resume().unwrap();
        let (_, bytes) = harness.request(0, &[header(0, 8), Part::Write(513)]);
        assert_eq!(bytes[..512], [4; 512]);
    });
}
