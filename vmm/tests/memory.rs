//! How guest memory is made, as a guest and its host see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::os::fd::AsRawFd;

use std::fs;

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::json;

#[test]
fn a_guest_in_shared_memory_runs_and_its_memory_is_a_file_of_the_process() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set("memory", json!({"shared": true}))
        .start();
    let client = vm.client();
    vm.wait_for("up");
    let maps = fs::read_to_string(format!("/proc/{}/maps", vm.process.id())).unwrap();
    let guest = maps.lines().find(|line| line.contains("memfd:guest-memory"));
    assert!(guest.is_some_and(|line| line.contains("rw-s")), "{maps}");
    client.stop().unwrap();
}

#[test]
fn a_guest_of_several_nodes_that_is_prefaulted_runs() {
    if !has_kvm() {
        return;
    }
    let mib = 1 << 20;
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set("vcpus", 2.into())
        .set("memory_bytes", (64 * mib).into())
        .set(
            "memory",
            json!({"prefault": true, "nodes": [
                {"vcpus": "0", "memory_bytes": 24 * mib}, {"vcpus": "1", "memory_bytes": 40 * mib},
            ]}),
        )
        .start();
    let client = vm.client();
    vm.wait_for("up");
    let metrics = client.metrics().unwrap();
    assert!(
        metrics.resident_bytes - metrics.overhead_bytes >= 64 * mib,
        "{metrics:?}"
    );
    client.stop().unwrap();
}

#[test]
fn a_host_without_huge_pages_is_told_how_many_to_set_aside() {
    if !has_kvm() {
        return;
    }
    let ended = Spec::new(&Payload::new().power_off())
        .set("memory_bytes", (1u64 << 40).into())
        .set("memory", json!({"hugepages": "1GiB"}))
        .run_to_end();
    assert!(
        ended.stderr.contains("needs 1024 huge pages of 1073741824 bytes"),
        "{}",
        ended.stderr
    );
}

/// Needs `sysctl vm.nr_hugepages=16`; without it there is nothing to say.
#[test]
fn a_guest_runs_in_huge_pages_private_and_shared() {
    let pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let free = fs::read_to_string(pool).unwrap_or_default();
    if !has_kvm() || free.trim().parse::<u64>().unwrap_or(0) < 16 {
        eprintln!("skipped: fewer than 16 free huge pages of 2 MiB");
        return;
    }
    for shared in [false, true] {
        let mut vm = Spec::new(&Payload::new().print("up").forever())
            .set("memory_bytes", (32 << 20).into())
            .set("memory", json!({"hugepages": "2MiB", "shared": shared}))
            .start();
        let client = vm.client();
        vm.wait_for("up");
        let smaps = fs::read_to_string(format!("/proc/{}/smaps", vm.process.id())).unwrap();
        let kinds = ["Private_Hugetlb:", "Shared_Hugetlb:"];
        let huge: u64 = smaps
            .lines()
            .filter(|line| kinds.iter().any(|kind| line.starts_with(kind)))
            .filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        assert!(huge >= 2048, "{smaps}");
        client.stop().unwrap();
        vm.end();
    }
}

#[test]
fn the_balloons_target_is_set_by_request() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set("balloon", json!({"target_bytes": 1 << 20}))
        .start();
    let client = vm.client();
    vm.wait_for("up");
    let answer = client
        .update_device("balloon", &json!({"target_bytes": 2 << 20}))
        .unwrap();
    assert_eq!(
        (answer["target_bytes"].as_u64(), answer["actual_bytes"].as_u64()),
        (Some(2 << 20), Some(0))
    );
    assert_eq!(
        client.metrics().unwrap().devices["balloon"]["target_bytes"],
        2 << 20
    );
    let refused = client.update_device("balloon", &json!({"target_bytes": 1u64 << 30}));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("more than the guest has")
    );
    client.stop().unwrap();
}

#[test]
fn a_guest_is_asked_to_plug_memory_by_request() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().print("up").forever())
        .set(
            "memory",
            json!({"hotplug": {"max_bytes": 1 << 30, "requested_bytes": 4 << 20}}),
        )
        .start();
    let client = vm.client();
    vm.wait_for("up");
    assert_eq!(
        client.metrics().unwrap().devices["memory"]["requested_bytes"],
        4 << 20
    );
    let answer = client
        .update_device("memory", &json!({"requested_bytes": 1 << 29}))
        .unwrap();
    assert_eq!(answer, json!({"requested_bytes": 1 << 29, "plugged_bytes": 0}));
    assert!(
        client
            .update_device("memory", &json!({"requested_bytes": 3}))
            .is_err()
    );
    client.stop().unwrap();
}

#[test]
fn a_guest_reads_and_writes_files_that_are_its_memory() {
    if !has_kvm() {
        return;
    }
    // Persistent memory begins after the 64-bit PCI window of 64 GiB, which begins at 4 GiB. The guest maps the first
    // file by the 68th entry of its page directory pointer table, with a directory of its own.
    let (first, second) = (68u64 << 30, (68u64 << 30) + (2 << 20));
    let directory = 0x40_0000;
    let payload = Payload::new()
        .store64(0xa000 + 68 * 8, directory | 3)
        .store64(directory, first | 0x83)
        .store64(directory + 8, second | 0x83)
        .raw(&[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8])
        .print_memory(first, 5)
        .store32(second + 4096, u32::from_le_bytes(*b"kept"))
        .print_memory(second, 4)
        .power_off();
    let spec = Spec::new(&payload);
    let read_only = spec.file("ro", b"hello from a file");
    let writable = spec.file("rw", &[b'w'; 2 << 20]);
    let pmem = json!([
        {"id": "ro", "path": read_only, "read_only": true}, {"id": "rw", "path": writable},
    ]);
    let vm = spec.set("pmem", pmem).start();
    let (ended, bytes) = vm.end_with(&writable);
    assert_eq!(ended.console, "hellowwww", "{}", ended.stderr);
    assert_eq!(&bytes[4095..4101], b"wkeptw");
}

#[test]
fn files_that_cannot_be_memory_are_refused_with_the_remedy() {
    if !has_kvm() {
        return;
    }
    for (contents, expected) in [
        (&b""[..], "it is empty"),
        (&[1; 100], "make it 2097152 bytes long"),
    ] {
        let spec = Spec::new(&Payload::new().power_off());
        let path = spec.file("pmem", contents);
        let ended = spec.set("pmem", json!([{"id": "p", "path": path}])).run_to_end();
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
    // More than any processor addresses, which takes no room on a file system of memory.
    let huge = nix::sys::memfd::memfd_create("huge", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::ftruncate(&huge, 1 << 52).unwrap();
    let path = format!("fd:{}", huge.as_raw_fd());
    let ended = Spec::new(&Payload::new().power_off())
        .set("pmem", json!([{"id": "p", "path": path}]))
        .run_to_end();
    assert!(
        ended.stderr.contains("it has 4503599627370496 bytes")
            && ended.stderr.contains("the guest has addresses up to 0x"),
        "{}",
        ended.stderr
    );
}
