//! The log on standard error: lines for programs, bounded whatever the guest does, and nobody who reads it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::process::Stdio;

use common::disk_driver::{DESCRIPTORS, PciDisk, disk, read_request};
use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::{Value, json};
use vmm::exit::{ExitReason, ExitReport};

const DISK: PciDisk = PciDisk::new(1, 0);
/// Where the payload counts.
const COUNTER: u64 = 0x31_0000;
/// How often the guest breaks its queue.
const TIMES: u32 = 500;

#[test]
fn a_guest_that_causes_the_same_line_over_and_over_gets_a_few_and_each_is_an_object() {
    if !has_kvm() {
        return;
    }
    let payload = Payload::new().repeat(COUNTER, TIMES, |payload| {
        // A chain that never ends: its descriptor is followed by itself.
        let payload = read_request(payload, 0)
            .store16(DESCRIPTORS + 12, 1)
            .store16(DESCRIPTORS + 14, 0);
        DISK.set_up(payload)
            .store16(DISK.notify(), 0)
            .wait_bits8(DISK.bar + 20, 0x40)
    });
    let spec = Spec::new(&payload.power_off());
    let path = spec.file("disk", &disk("text"));
    let ended = spec
        .set("disks", json!([{"id": "root", "path": path}]))
        .set("log", json!({"format": "json", "level": "debug"}))
        .run_to_end();
    assert_eq!(ended.report.unwrap().reason, ExitReason::Poweroff);
    let lines: Vec<Value> = ended
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let broken: Vec<&Value> = lines
        .iter()
        .filter(|line| line["fields"]["reason"] == "descriptor chain without end")
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
