//! The program, from the command line to its end, with a front end of ours.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use common::{PATIENCE, Place, VERSION_1, header, read, write};
use devices::testing::{Harness, Part};
use devices::virtio::net::MacAddress;
use devices::virtio::vhost::{Profile, VhostUser};
use devices::virtio::worker::Virtio;
use serde_json::json;

#[test]
fn a_ring_that_is_enabled_before_features_are_agreed_on_is_answered_under_the_filter() {
    let mut place = Place::new();
    place.serve(&[]);
    let mut front_end = UnixStream::connect(place.socket()).unwrap();
    front_end.set_read_timeout(Some(PATIENCE)).unwrap();
    // SET_VRING_ENABLE, which needs an answer: what QEMU says first to a network card.
    let message = [18u32, 9, 8, 0, 1].map(u32::to_ne_bytes);
    front_end.write_all(message.as_flattened()).unwrap();
    let mut answer = [0; 20];
    front_end.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, [18u32, 5, 8, 0, 0].map(u32::to_ne_bytes).as_flattened());
}

#[test]
fn a_program_that_is_killed_and_started_again_goes_on_with_its_front_end() {
    let mut place = Place::new();
    place.serve(&[]);
    let mut harness = place.disk();
    for round in 1..=3u8 {
        write(&mut harness, 0, u64::from(round), round);
        place.kill();
        harness.queues[0].add(&[header(0, u64::from(round)), Part::Write(513)]);
        harness.queues[0].kick();
        place.serve(&[]);
        let (_, _, bytes) = harness.next_used(0).expect("an answer of the next one");
        assert_eq!((bytes[0], bytes[512]), (round, 0));
    }
}

/// The card's address, and the host's on its network.
const MAC: [u8; 6] = [0x10, 0x66, 0x6a, 0, 0, 1];
const HOST: [u8; 4] = [10, 80, 0, 1];
/// Bytes before a frame.
const HEADER: usize = 12;

/// Asks who has the host's address (ARP), with nothing left to do in the header.
fn question() -> Vec<u8> {
    let ethernet = [&[0xff; 6][..], &MAC, &[8, 6]].concat();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1];
    let sender = [&MAC[..], &[10, 80, 0, 2]].concat();
    let target = [&[0; 6][..], &HOST].concat();
    [&[0; HEADER][..], &ethernet, &arp, &sender, &target].concat()
}

/// Sends the question and waits for the answer, among whatever else the host has to say.
fn is_answered(harness: &mut Harness) -> bool {
    harness.queues[1].add(&[Part::Read(question())]);
    harness.queues[1].kick();
    for _ in 0..64 {
        let Some((_, len, bytes)) = harness.next_used(0) else {
            return false;
        };
        let frame = &bytes[HEADER..len as usize];
        if frame[..6] == MAC && frame[12..14] == [8, 6] && frame[28..32] == HOST {
            return true;
        }
    }
    false
}

#[test]
fn a_network_card_is_answered_also_by_the_back_end_that_follows_one_that_died() {
    if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
        eprintln!("skipped: no right to make a network, or no taps");
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    for words in [
        "tuntap add dev tap0 mode tap",
        "address add 10.80.0.1/24 dev tap0",
        "link set tap0 up",
    ] {
        let status = Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(status.success(), "ip {words}");
    }
    let mut place = Place::new();
    let device = json!({"net": {"id": "remote", "tap": "tap0", "mac": "10:66:6a:00:00:01"}});
    place.serve_device(&device, &["--sandbox", r#"{"uid": 54321}"#]);
    let profile = Profile::Net {
        mac: MacAddress(MAC),
        mtu: 1500,
    };
    let card = VhostUser::new(profile, place.connector()).unwrap();
    let mut harness = Harness::with_device(Box::new(Virtio::new(card)), VERSION_1);
    for _ in 0..64 {
        harness.queues[0].add(&[Part::Write(2048)]);
    }
    harness.queues[0].kick();
    for _ in 0..3 {
        assert!(is_answered(&mut harness));
        place.kill();
        place.serve_device(&device, &["--sandbox", r#"{"uid": 54321}"#]);
    }
    assert!(is_answered(&mut harness));
}

#[test]
fn one_front_end_after_the_other_is_served_or_one_only() {
    let mut place = Place::new();
    place.serve(&[]);
    for _ in 0..3 {
        let mut harness = place.disk();
        assert_eq!(read(&mut harness, 0, 1), 0);
    }
    place.kill();
    // The connection that finds out whether somebody listens is the one.
    place.serve(&["--once"]);
    let status = place.program.take().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_is_wrong_is_said_with_a_status_of_its_own() {
    let place = Place::new();
    let run = |arguments: &[&str]| -> Output {
        let mut command = place.command(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    };
    for (device, status, problem) in [
        (json!({"disk": {"id": "a", "path": "none"}}), 1, "No such file"),
        (json!({"disk": {"id": "a"}}), 2, "disks[0].path"),
        (
            json!({"disk": {"id": "a", "vhost_user": "x"}}),
            2,
            "leave `vhost_user`",
        ),
        (
            json!({"net": {"id": "a", "tap": "t", "mac": "10:66:6a:00:00:01", "queue_pairs": 2}}),
            2,
            "one pair of queues",
        ),
        (json!({"vsock": {"cid": 3, "socket": "x"}}), 2, "only disks"),
        (json!({"tape": {}}), 2, "not valid"),
    ] {
        let output = run(&["--socket", "socket", "--device", &device.to_string()]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{device}: {message}");
        assert!(message.contains(problem), "{device}: {message}");
    }
    for (sandbox, problem) in [
        (json!({"gid": 5}), "set sandbox.uid with it"),
        (json!({"strength": 5}), "the sandbox is not valid"),
    ] {
        let device = json!({"disk": {"id": "a", "path": "disk"}}).to_string();
        let output = run(&[
            "--socket",
            "socket",
            "--device",
            &device,
            "--sandbox",
            &sandbox.to_string(),
        ]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(problem), "{message}");
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}
