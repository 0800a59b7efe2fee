//! Disks that change while the guest runs, and images as disks.

use super::*;
use crate::testing::{Harness, PATIENCE, Part};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Command;

const FLUSH: u64 = 1 << spec::VIRTIO_BLK_F_FLUSH;
const WCE: u64 = 1 << spec::VIRTIO_BLK_F_CONFIG_WCE;
const SIZE: u64 = 1 << 20;

fn header(kind: u32, sector: u64) -> Part {
    Part::Read([&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat())
}

fn write(harness: &mut Harness, sector: u64, data: Vec<u8>) -> u8 {
    let (_, status) = harness.request(0, &[header(1, sector), Part::Read(data), Part::Write(1)]);
    status[0]
}

fn read(harness: &mut Harness, sector: u64, len: u32) -> Vec<u8> {
    let (_, bytes) = harness.request(0, &[header(0, sector), Part::Write(len), Part::Write(1)]);
    assert_eq!(bytes[len as usize], 0);
    bytes[..len as usize].to_vec()
}

fn raw() -> (File, Vec<DiskFile>) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(SIZE).unwrap();
    let disk = DiskFile::raw(file.try_clone().unwrap()).unwrap();
    (file, vec![disk])
}

fn image(path: &Path) -> DiskFile {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    DiskFile {
        file: HostFile::new(file).unwrap(),
        format: Format::Qcow2,
    }
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img")
        .args(arguments)
        .output()
        .expect("qemu-img");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn capacity(harness: &Harness) -> u64 {
    let mut capacity = [0; 8];
    harness.device.config().read(0, &mut capacity);
    u64::from_le_bytes(capacity) * 512
}

fn update(harness: &mut Harness, update: serde_json::Value) -> UpdateResult {
    harness.device.update(update).wait(PATIENCE)
}

#[test]
fn a_disk_grows_under_its_guest_which_is_told() {
    let (file, disk) = raw();
    let mut harness = Harness::new(Block::new(Config::default(), disk).unwrap(), FLUSH);
    let before = harness.interrupt.config_changes();
    let answer = update(&mut harness, serde_json::json!({"size_bytes": 2 * SIZE})).unwrap();
    assert_eq!(answer["size_bytes"], 2 * SIZE);
    assert_eq!(harness.interrupt.config_changes(), before + 1);
    assert_eq!(
        (capacity(&harness), file.metadata().unwrap().len()),
        (2 * SIZE, 2 * SIZE)
    );
    assert_eq!(write(&mut harness, 2 * SIZE / 512 - 1, vec![5; 512]), 0);
    assert_eq!(read(&mut harness, 2 * SIZE / 512 - 1, 512), [5; 512]);
    for (size, expected) in [(SIZE, "cannot become smaller"), (2 * SIZE + 1, "multiple of 512")] {
        let error = update(&mut harness, serde_json::json!({"size_bytes": size})).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(matches!(
        update(&mut harness, serde_json::json!({"colour": 1})),
        Err(UpdateError::Invalid(_))
    ));
    assert_eq!(capacity(&harness), 2 * SIZE);
}

#[test]
fn limits_come_and_go_for_all_queues() {
    let config = Config {
        queues: 2,
        ..Config::default()
    };
    let (_file, disk) = raw();
    let mq = FLUSH | 1 << spec::VIRTIO_BLK_F_MQ;
    let mut harness = Harness::new(Block::new(config, disk).unwrap(), mq);
    update(
        &mut harness,
        serde_json::json!({"limits": {"operations_per_second": 1}}),
    )
    .unwrap();
    for queue in [0, 1, 1] {
        harness.queues[queue].add(&[header(4, 0), Part::Write(1)]);
        harness.queues[queue].kick();
    }
    // One passes at once, whichever it is; the others wait.
    assert!(
        harness
            .interrupt
            .wait(|| harness.device.metrics()["throttled"].as_u64() > Some(0))
    );
    update(&mut harness, serde_json::json!({"limits": {}})).unwrap();
    for queue in [0, 1, 1] {
        assert!(harness.next_used(queue).is_some());
    }
    assert_eq!(harness.device.metrics()["flush_time"]["count"], 3);
}

#[test]
fn what_is_refused_changes_nothing() {
    let (_file, disk) = raw();
    let mut harness = Harness::new(Block::new(Config::default(), disk).unwrap(), FLUSH);
    for (wrong, problem) in [
        (
            serde_json::json!({"limits": {"operations_burst": 5}, "size_bytes": 2 * SIZE}),
            "limits: `operations_burst` is 5: set `operations_per_second`, too",
        ),
        (
            serde_json::json!({"limits": {"bytes_per_second": 5}, "size_bytes": SIZE + 1}),
            "use a multiple of 512",
        ),
    ] {
        let error = update(&mut harness, wrong).unwrap_err();
        assert!(
            matches!(error, UpdateError::Invalid(_)) && error.to_string().contains(problem),
            "{error}"
        );
    }
    let holds = update(&mut harness, serde_json::json!({})).unwrap();
    assert_eq!(holds, serde_json::json!({"size_bytes": SIZE, "limits": {}}));
}

#[test]
fn a_driver_turns_the_write_cache_off_and_a_reset_turns_it_on() {
    let (_file, disk) = raw();
    let mut harness = Harness::new(Block::new(Config::default(), disk).unwrap(), FLUSH | WCE);
    let field = |harness: &Harness| {
        let mut field = [0];
        harness.device.config().read(WRITEBACK as u64, &mut field);
        field[0]
    };
    assert_eq!(field(&harness), 1);
    harness.device.write_config(WRITEBACK as u64, &[0]);
    // Nothing else can be written.
    harness.device.write_config(0, &[0xff; 8]);
    assert_eq!((field(&harness), capacity(&harness)), (0, SIZE));
    assert_eq!(write(&mut harness, 0, vec![1; 512]), 0);
    harness.device.pause().unwrap();
    let state: State = serde_json::from_value(harness.device.save().unwrap()).unwrap();
    assert!(!state.write_back);
    harness.device.resume().unwrap();
    assert_eq!(field(&harness), 0);
    harness.device.reset();
    assert_eq!(field(&harness), 1);
    // Without flushes the field says what is the case (§5.2.5.2).
    harness.activate(WCE);
    assert_eq!(write(&mut harness, 0, vec![1; 512]), 0);
    assert_eq!(field(&harness), 0);
}

#[test]
fn an_image_is_a_disk_with_each_engine() {
    for engine in [EngineKind::Auto, EngineKind::Threads] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.qcow2");
        std::fs::write(folder.path().join("base.raw"), vec![3; SIZE as usize]).unwrap();
        let name = path.to_str().unwrap();
        qemu_img(&["create", "-f", "qcow2", "-F", "raw", "-b", "base.raw", name, "1M"]);
        let base = File::open(folder.path().join("base.raw")).unwrap();
        let config = Config {
            engine,
            ..Config::default()
        };
        let files = vec![image(&path), DiskFile::raw(base).unwrap()];
        let mut harness = Harness::new(Block::new(config, files).unwrap(), FLUSH);
        assert_eq!(read(&mut harness, 0, 4096), [3; 4096]);
        // Many at once into the same new clusters.
        for sector in 0..128u64 {
            harness.queues[0].add(&[
                header(1, sector * 4),
                Part::Read(vec![sector as u8; 1024]),
                Part::Write(1),
            ]);
            if sector % 32 == 31 {
                harness.queues[0].kick();
                for _ in 0..32 {
                    assert_eq!(harness.next_used(0).unwrap().2, [0]);
                }
            }
        }
        let mut expected = vec![3; SIZE as usize];
        for sector in 0..128usize {
            expected[sector * 2048..][..1024].fill(sector as u8);
        }
        // Zeroes with and without space, across clusters.
        for (flags, start) in [(0u32, 300u64), (1, 700)] {
            let segment = [
                &start.to_le_bytes()[..],
                &200u32.to_le_bytes(),
                &flags.to_le_bytes(),
            ]
            .concat();
            let (_, status) = harness.request(0, &[header(13, 0), Part::Read(segment), Part::Write(1)]);
            assert_eq!(status, [0]);
            expected[start as usize * 512..][..200 * 512].fill(0);
        }
        assert_eq!(harness.request(0, &[header(4, 0), Part::Write(1)]).1, [0]);
        for chunk in 0..16 {
            let found = read(&mut harness, chunk * 128, 65536);
            assert!(
                found == expected[chunk as usize * 65536..][..65536],
                "chunk {chunk}"
            );
        }
        update(&mut harness, serde_json::json!({"size_bytes": 3 * SIZE})).unwrap();
        assert_eq!(read(&mut harness, 2 * SIZE / 512, 512), [0; 512]);
        harness.device.reset();
        drop(harness);
        qemu_img(&["check", name]);
    }
}
