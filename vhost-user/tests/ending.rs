//! How the program ends, and what must not end it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;
#[path = "../../devices/src/testing/volume.rs"]
mod volume;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use common::{Place, disk, header, read, write};
use devices::testing::Part;
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

#[test]
fn a_disk_that_hangs_is_not_waited_for_for_ever_when_its_front_end_has_gone() {
    let Some(mut volume) = Volume::new(16) else { return };
    let path = volume.path().join("disk");
    let file = File::create(&path).unwrap();
    file.write_all_at(&[0; 1 << 16], 0).unwrap();
    file.sync_all().unwrap();
    let mut place = Place::new();
    let mut command = place.device_command(&disk(&path), &["--once"]);
    let mut program = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stderr.take().unwrap()).lines();
    place.program = Some(program);
    let connection = place.connect();
    let mut harness = place.disk_by(connection.try_clone().unwrap());
    write(&mut harness, 0, 1, 9);
    volume.freeze();
    harness.queues[0].add(&[header(1, 2), Part::Read(vec![9; 512]), Part::Write(1)]);
    harness.queues[0].kick();
    // Shows that the device has taken what came before.
    assert_eq!(read(&mut harness, 0, 1), 9);
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
