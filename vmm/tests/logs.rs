//! The log on standard error: lines for programs, bounded whatever the guest does, and nobody who reads it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::io::{ErrorKind, PipeWriter, Read, Write};
use std::process::Stdio;

use common::disk_driver::{DESCRIPTORS, disk, read_request};
use common::payload::Payload;
use common::pci_driver::FIRST;
use common::vm::{Spec, has_kvm};
use serde_json::{Value, json};
use vmm::exit::{ExitReason, ExitReport};

/// Where the payload counts.
const COUNTER: u64 = 0x31_0000;

/// A guest that breaks its queue so often, which is a line of the log each time.
fn breaks_queue(times: u32) -> Payload {
    Payload::new().repeat(COUNTER, times, |payload| {
        // A chain that never ends: its descriptor is followed by itself.
        let payload = read_request(payload, 0)
            .store16(DESCRIPTORS + 12, 1)
            .store16(DESCRIPTORS + 14, 0);
        FIRST
            .set_up(payload)
            .store16(FIRST.notify(), 0)
            .wait_bits8(FIRST.bar + 20, 0x40)
    })
}

fn spec(payload: &Payload) -> Spec {
    let spec = Spec::new(payload);
    let path = spec.file("disk", &disk("text"));
    spec.set("disks", json!([{"id": "root", "path": path}]))
        .set("log", json!({"format": "json", "level": "debug"}))
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_guest_that_causes_the_same_line_over_and_over_gets_a_few_and_each_is_an_object() {
    if !has_kvm() {
        return;
    }
    let ended = spec(&breaks_queue(500).power_off()).run_to_end();
    assert_eq!(ended.report.unwrap().reason, ExitReason::Poweroff);
    let lines = lines(&ended.stderr);
    let broken: Vec<&Value> = lines
        .iter()
        .filter(|line| line["message"] == "queue given up until the driver resets the device")
        .collect();
    assert!((1..100).contains(&broken.len()), "{}", ended.stderr);
    for line in &lines {
        assert_eq!(line["vm"], "test", "{line}");
        assert!(line["time"].as_f64().unwrap() > 1.7e9, "{line}");
        for field in ["level", "target", "thread"] {
            assert!(!line[field].as_str().unwrap().is_empty(), "{line}");
        }
    }
    assert!(
        lines.last().unwrap()["message"]
            .as_str()
            .unwrap()
            .contains("powered off"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_vm_whose_log_nobody_reads_ends_as_any_other() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().power_off());
    let run_dir = spec.folder.path().join("run");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = spec.command(&[]);
    let status = command.stdout(Stdio::null()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        ExitReport::read(&run_dir).unwrap().unwrap().reason,
        ExitReason::Poweroff
    );
}

/// Fills a pipe to the last byte.
fn fill(pipe: &mut PipeWriter) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(&*pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    for size in [4096, 1] {
        let refused = loop {
            if let Err(error) = pipe.write_all(&vec![b'\n'; size]) {
                break error;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    }
    fcntl(&*pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
}

#[test]
fn a_vm_whose_log_is_a_full_pipe_runs_on_and_says_later_what_it_dropped() {
    if !has_kvm() {
        return;
    }
    let payload = breaks_queue(100).print("broken").wait_for_input().power_off();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    fill(&mut writer);
    let mut vm = spec(&payload).start_with_stderr(writer.into());
    vm.wait_for("broken");
    let client = vm.client();
    client.pause().unwrap();
    client.resume().unwrap();
    // Reads what was in the pipe before; there is nothing behind it.
    let mut filling = [0; 4096];
    let mut fill_left = 64 << 10;
    while fill_left > 0 {
        let len = reader.read(&mut filling).unwrap();
        assert!(filling[..len].iter().all(|byte| *byte == b'\n'));
        fill_left -= len;
    }
    vm.console().write_all(b"x").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let lines = lines(&text);
    let dropped = lines.first().unwrap()["message"].as_str().unwrap();
    let (count, words) = dropped.split_once(' ').unwrap();
    assert!((20..60).contains(&count.parse::<u32>().unwrap()), "{text}");
    assert_eq!(words, "lines were dropped: nobody read them");
    let last = lines.last().unwrap()["message"].as_str().unwrap();
    assert!(last.contains("powered off"), "{text}");
    assert_eq!(vm.end().status, Some(0));
}
