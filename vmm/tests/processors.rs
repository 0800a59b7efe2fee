//! More than one vCPU, and the other way to enter a guest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::payload::Payload;
use common::vm::{Spec, eventually, has_kvm};
use serde_json::json;
use vmm::exit::ExitReason;
use vmm::probe::{KvmKind, probe};

const ICR_LOW: u64 = 0xfee0_0300;
const ICR_HIGH: u64 = 0xfee0_0310;
/// Where the second processor starts, in real mode: SIPI vector 0x30.
const START: u64 = 0x3_0000;

#[test]
fn the_second_processor_starts_when_it_is_told_to() {
    if !has_kvm() {
        return;
    }
    // mov byte [cs:0x100], 1; hlt
    let mut payload = Payload::new();
    for (offset, byte) in (0..).zip([0x2e, 0xc6, 0x06, 0x00, 0x01, 0x01, 0xf4]) {
        payload = payload.store8(START + offset, byte);
    }
    let payload = payload
        .print("first")
        .store32(0xfee0_00f0, 0x1ff)
        .store32(ICR_HIGH, 1 << 24)
        .store32(ICR_LOW, 0x4500)
        .store32(ICR_LOW, 0x4630)
        .wait_bits32(START + 0x100, 1)
        .print(" second")
        .power_off();
    let ended = Spec::new(&payload).set("vcpus", 2.into()).run_to_end();
    let report = ended.report.unwrap();
    if report.reason == ExitReason::Error && matches!(probe(), KvmKind::Software { .. }) {
        // Such a KVM may lack real mode, and then says so. That is a report, too, and names the vCPU.
        assert!(report.message.contains("vCPU 1"), "{}", report.message);
        eprintln!("this KVM does not start second processors: {}", report.message);
        return;
    }
    assert_eq!(ended.console, "first second", "{}", ended.stderr);
}

#[test]
fn thirty_two_vcpus_pause_resume_and_stop() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set("vcpus", 32.into())
        .start();
    let client = vm.client();
    vm.wait_for("up");
    for _ in 0..3 {
        client.pause().unwrap();
        client.resume().unwrap();
    }
    assert_eq!(client.metrics().unwrap().vcpus.len(), 32);
    assert_eq!(client.state().unwrap().vcpus, 32);
    client.stop().unwrap();
    assert_eq!(vm.end().report.unwrap().reason, ExitReason::Killed);
}

#[test]
fn memory_above_four_gibibytes_is_there() {
    if !has_kvm() {
        return;
    }
    // Maps the fifth GiB by a second entry of the page directory pointer table, which points at the first GiB of a
    // directory that starts at 4 GiB.
    let directory = 0x40_0000;
    let payload = Payload::new()
        .store64(0xa000 + 4 * 8, directory | 3)
        .store64(directory, 0x1_0000_0083)
        .raw(&[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8])
        .store32(0x1_0000_1000, u32::from_le_bytes(*b"high"))
        .print_memory(0x1_0000_1000, 4)
        .power_off();
    let ended = Spec::new(&payload)
        .set("memory_bytes", (4u64 << 30).into())
        .run_to_end();
    assert_eq!(ended.console, "high", "{}", ended.stderr);
}

#[test]
fn a_pvh_guest_is_entered_in_protected_mode_with_its_start_info() {
    if !has_kvm() {
        return;
    }
    // mov al, [ebx + n]; mov dx, 0x3f8; out dx, al for the four bytes of the magic; then S5. 32-bit code.
    let mut payload = Payload::new();
    for offset in 0..4 {
        payload = payload.raw(&[0x8a, 0x43, offset, 0x66, 0xba, 0xf8, 0x03, 0xee]);
    }
    let spec = Spec::with_kernel(&payload.power_off().pvh_elf());
    let kernel = spec.folder.path().join("kernel");
    let vm = spec
        .set("kernel", json!({"path": kernel, "protocol": "pvh"}))
        .start();
    let log = vm.run_dir().join("console.log");
    let (ended, printed) = vm.end_with(&log);
    if ended.report.as_ref().unwrap().reason == ExitReason::Error
        && matches!(probe(), KvmKind::Software { .. })
    {
        eprintln!("this KVM does not run protected mode without paging: {ended:?}");
        return;
    }
    assert_eq!(printed, 0x336e_c578u32.to_le_bytes(), "{}", ended.stderr);
}

/// On which CPUs of the host a thread may run.
fn status(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

fn first_of(cpus: &str) -> String {
    cpus.split(['-', ',']).next().unwrap().to_owned()
}

#[test]
fn threads_run_on_the_cpus_they_are_pinned_to() {
    if !has_kvm() {
        return;
    }
    let own = status("/proc/self/status");
    let first = first_of(&own);
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set("cpu", json!({"pinning": {"vcpus": [first], "devices": own}}))
        .start();
    let client = vm.client();
    vm.wait_for("up");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", vm.process.id())).unwrap();
    let tasks: Vec<_> = tasks
        .map(|task| task.unwrap().path().display().to_string())
        .collect();
    let vcpu = tasks
        .iter()
        .find(|task| std::fs::read_to_string(format!("{task}/comm")).unwrap().trim() == "vcpu0")
        .unwrap();
    assert_eq!(status(&format!("{vcpu}/status")), first);
    client.stop().unwrap();
}

#[test]
fn a_processor_that_comes_later_goes_to_its_place_too() {
    if !has_kvm() {
        return;
    }
    let first = first_of(&status("/proc/self/status"));
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set("cpu", json!({"max": 2, "pinning": {"vcpus": [first, first]}}))
        .start();
    let client = vm.client();
    vm.wait_for("up");
    client
        .call("PUT", "/vcpus", Some(&json!({"count": 2})), &[])
        .unwrap();
    let tasks = format!("/proc/{}/task", vm.process.id());
    eventually("the second vCPU's place", || {
        let mut tasks = std::fs::read_dir(&tasks).unwrap().filter_map(Result::ok);
        tasks.find_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let placed = status.contains("Name:\tvcpu1\n")
                && status.contains(&format!("Cpus_allowed_list:\t{first}\n"));
            placed.then_some(())
        })
    });
    client.stop().unwrap();
    vm.end();
}

#[test]
fn features_that_this_host_does_not_have_are_named() {
    if !has_kvm() {
        return;
    }
    // No processor has both: one is AMD's, the other Intel's.
    let ended = Spec::new(&Payload::new().power_off())
        .set("cpu", json!({"features": ["+vmx", "+svm"]}))
        .run_to_end();
    assert!(ended.stderr.contains("does not have "), "{}", ended.stderr);
    assert!(ended.stderr.contains("cpu.model host"), "{}", ended.stderr);
}
