//! How the program ends, and what must not end it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../devices/src/testing/volume.rs"]
mod volume;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Place, disk, header, read, write};
use devices::testing::{Harness, Part};
use volume::Volume;

/// A pipe that nobody reads.
fn nobody() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn nobody_to_read_what_it_prints_is_no_matter() {
    let mut place = Place::new();
    let code = |command: &mut Command| {
        let status = command.stdout(nobody()).stderr(nobody()).status();
        status.unwrap().code()
    };
    assert_eq!(code(&mut place.command(&["--help"])), Some(0));
    assert_eq!(code(&mut place.command(&["--tape"])), Some(2));
    let mut command = place.disk_command(&[]);
    command.stdout(nobody()).stderr(nobody());
    place.program = Some(command.spawn().unwrap());
    // What breaks the protocol is logged.
    place.connect().write_all(&[0xff; 64]).unwrap();
    let mut harness = place.disk();
    write(&mut harness, 0, 1, 9);
    assert_eq!(read(&mut harness, 0, 1), 9);
}

/// A disk on a file system that can be frozen.
fn volume_with_disk() -> Option<(Volume, PathBuf)> {
    let volume = Volume::new(16)?;
    let path = volume.path().join("disk");
    let file = File::create(&path).unwrap();
    file.write_all_at(&[0; 1 << 16], 0).unwrap();
    file.sync_all().unwrap();
    Some((volume, path))
}

/// Has the disk hang at a write of this byte to this sector.
fn add_write(harness: &mut Harness, sector: u8) -> u16 {
    let write = [
        header(1, sector.into()),
        Part::Read(vec![sector; 512]),
        Part::Write(1),
    ];
    let head = harness.queues[0].add(&write);
    harness.queues[0].kick();
    // An answer to something else shows that the device has taken what came before.
    assert_eq!(read(harness, 0, 99), 0);
    head
}

#[test]
fn what_a_killed_program_had_not_answered_is_done_by_the_next_one() {
    let Some((mut volume, path)) = volume_with_disk() else {
        return;
    };
    let mut place = Place::new();
    place.serve_device(&disk(&path), &[]);
    let mut harness = place.disk();
    volume.freeze();
    let mut asked: Vec<u16> = (1..=5).map(|sector| add_write(&mut harness, sector)).collect();
    place.program.as_mut().unwrap().kill().unwrap();
    // Until then the kernel does not let go of the process.
    volume.thaw();
    place.kill();
    place.serve_device(&disk(&path), &[]);
    let mut answered = asked.clone();
    for head in &mut answered {
        let (of, _, status) = harness.next_used(0).expect("an answer of the next one");
        assert_eq!(status, [0]);
        *head = of;
    }
    asked.sort_unstable();
    answered.sort_unstable();
    assert_eq!(answered, asked);
    for sector in 1..=5 {
        assert_eq!(u64::from(read(&mut harness, 1, sector)), sector);
    }
}

#[test]
fn a_disk_that_hangs_is_not_waited_for_for_ever_when_its_front_end_has_gone() {
    let Some((mut volume, path)) = volume_with_disk() else {
        return;
    };
    let mut place = Place::new();
    let mut command = place.device_command(&disk(&path), &["--once"]);
    let mut program = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
    place.program = Some(program);
    let connection = place.connect();
    let mut harness = place.disk_by(connection.try_clone().unwrap());
    write(&mut harness, 0, 1, 9);
    volume.freeze();
    add_write(&mut harness, 2);
    // The front end asks for the ring back, and goes before it gets an answer.
    drop(harness);
    connection.shutdown(Shutdown::Both).unwrap();
    let last = lines.find_map(|line| line.ok().filter(|line| line.starts_with("virga-vhost-user: ")));
    assert!(
        last.as_deref()
            .is_some_and(|line| line.contains("has not finished in 5s")),
        "{last:?}"
    );
    // Until then the kernel does not let go of the process.
    volume.thaw();
    assert_eq!(place.program.take().unwrap().wait().unwrap().code(), Some(1));
}
