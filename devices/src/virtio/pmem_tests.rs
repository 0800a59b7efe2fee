use super::*;
use crate::testing::{Harness, Part};
use std::fs::OpenOptions;

const CONFIG: Config = Config {
    address: 1 << 37,
    bytes: 2 << 20,
    read_only: false,
};

fn flush(harness: &mut Harness, request: u32) -> u32 {
    let (len, answer) = harness.request(0, &[Part::Read(request.to_le_bytes().to_vec()), Part::Write(4)]);
    assert_eq!(len, 4);
    u32::from_le_bytes(answer.try_into().unwrap())
}

#[test]
fn the_driver_finds_the_memory_and_flushes_it() {
    let mut harness = Harness::new(Pmem::new(CONFIG, tempfile::tempfile().unwrap()), 0);
    let mut space = [0; 16];
    harness.device.config().read(0, &mut space);
    assert_eq!(
        space,
        *[(1u64 << 37).to_le_bytes(), (2u64 << 20).to_le_bytes()].concat()
    );
    assert_eq!(flush(&mut harness, FLUSH), DONE);
    assert_eq!(harness.device.metrics()["flushes"], 1);
}

#[test]
fn what_cannot_be_flushed_is_told() {
    // Linux refuses to sync a pipe.
    let (reader, _writer) = std::io::pipe().unwrap();
    let pipe = File::from(std::os::fd::OwnedFd::from(reader));
    let mut harness = Harness::new(Pmem::new(CONFIG, pipe.try_clone().unwrap()), 0);
    assert_eq!(flush(&mut harness, FLUSH), FAILED);
    assert_eq!(harness.device.metrics()["failures"], 1);
    let config = Config {
        read_only: true,
        ..CONFIG
    };
    let mut harness = Harness::new(Pmem::new(config, pipe), 0);
    assert_eq!(flush(&mut harness, FLUSH), DONE, "there is nothing to flush");
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let mut harness = Harness::new(Pmem::new(CONFIG, file), 0);
    for request in [1, u32::MAX] {
        assert_eq!(flush(&mut harness, request), FAILED);
    }
    let (len, _) = harness.request(0, &[Part::Read(vec![0; 3]), Part::Write(4)]);
    assert_eq!(len, 4);
    let (len, _) = harness.request(0, &[Part::Read(vec![0; 4]), Part::Write(3)]);
    assert_eq!(len, 0);
    assert_eq!(harness.device.metrics()["refused"], 3);
}

#[test]
fn a_saved_device_is_made_again_from_its_state() {
    let state = Pmem::new(CONFIG, tempfile::tempfile().unwrap()).save();
    assert_eq!(
        Pmem::restore(state.clone(), tempfile::tempfile().unwrap()).save(),
        state
    );
}
