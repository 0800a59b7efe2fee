//! Linux on `virga-vmm` by itself: the guest kernel and an initrd, no daemon.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use end_to_end::{Guest, virtual_machines_run_here};
use serde_json::{Value, json};

/// Boots with `change` applied to a small configuration; gives the console and the exit report.
fn boot(script: &str, change: impl FnOnce(&mut Value)) -> (String, Value) {
    Guest::start(script, change).end()
}

#[test]
fn linux_boots_sees_its_devices_and_powers_off() {
    if !virtual_machines_run_here("linux_boots_sees_its_devices_and_powers_off") {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let disk = folder.path().join("disk.raw");
    std::fs::write(&disk, vec![b'V'; 1 << 20]).expect("write a disk");
    let script = "echo cpus $(nproc); echo disk $(head -c 4 /dev/vda) $(cat /sys/block/vda/size)
        echo packed $(cut -c35 /sys/bus/virtio/devices/virtio0/features)
        echo hi | dd of=/dev/vda bs=512 seek=1 conv=fsync 2>/dev/null; cat /sys/class/misc/hw_random/rng_current
        poweroff -f";
    let (console, report) = boot(script, |config| {
        config["disks"] = json!([{ "id": "root", "path": disk }]);
        config["rng"] = json!(true);
    });
    assert!(console.contains("cpus 1"), "{console}");
    assert!(console.contains("disk VVVV 2048"), "{console}");
    assert!(console.contains("virtio_rng"), "{console}");
    // VIRTIO_F_RING_PACKED is feature 34.
    assert!(console.contains("packed 1"), "{console}");
    assert_eq!(report["reason"], "poweroff", "{report} {console}");
    assert_eq!(&std::fs::read(&disk).expect("read the disk")[512..515], b"hi\n");
}

#[test]
fn linux_runs_on_two_vcpus() {
    if !virtual_machines_run_here("linux_runs_on_two_vcpus") {
        return;
    }
    let (console, report) = boot("echo cpus $(nproc); poweroff -f", |config| {
        config["vcpus"] = json!(2)
    });
    assert!(console.contains("cpus 2"), "{console}");
    assert_eq!(report["reason"], "poweroff", "{report}");
}

#[test]
fn a_reboot_is_told_apart_from_a_power_off() {
    if !virtual_machines_run_here("a_reboot_is_told_apart_from_a_power_off") {
        return;
    }
    let (_, report) = boot("reboot -f", |_| {});
    assert_eq!(report["reason"], "reset", "{report}");
}

#[test]
fn linux_finds_its_disk_over_mmio() {
    if !virtual_machines_run_here("linux_finds_its_disk_over_mmio") {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let disk = folder.path().join("disk.raw");
    std::fs::write(&disk, vec![b'M'; 1 << 20]).expect("write a disk");
    let (console, report) = boot(
        "echo disk $(head -c 4 /dev/vda); echo packed $(cut -c35 /sys/bus/virtio/devices/virtio0/features); ls /sys/bus/pci/devices; poweroff -f",
        |config| {
            config["disks"] = json!([{ "id": "root", "path": disk }]);
            config["transport"] = json!("mmio");
        },
    );
    assert!(console.contains("disk MMMM"), "{console}");
    assert!(console.contains("packed 1"), "{console}");
    assert_eq!(report["reason"], "poweroff", "{report}");
}
