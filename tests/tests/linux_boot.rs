//! Linux on `virga-vmm` by itself: the guest kernel and an initrd, no daemon.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::virtual_machines_run_here;
use serde_json::{Value, json};

fn dist() -> PathBuf {
    std::env::var_os("VIRGA_DIST").expect("VIRGA_DIST").into()
}

/// An initrd whose init is `script`, run by busybox.
fn initrd(folder: &Path, script: &str) -> PathBuf {
    let root = folder.join("initrd.d");
    for name in ["bin", "dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(name)).expect("make a folder");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let init = format!(
        "#!/bin/busybox sh\nexport PATH=/bin\n/bin/busybox --install -s /bin\nmount -t proc proc /proc\nmount -t sysfs sysfs /sys\nmount -t devtmpfs dev /dev\nexec >/dev/console 2>&1\n{script}\n"
    );
    std::fs::write(root.join("init"), init).expect("write init");
    Command::new("chmod")
        .arg("755")
        .arg(root.join("init"))
        .status()
        .expect("chmod");
    let out = folder.join("initrd.cpio");
    let status = Command::new("sh")
        .args([
            "-c",
            "cd \"$1\" && find . | cpio -o -H newc --quiet > \"$2\"",
            "sh",
        ])
        .args([&root, &out])
        .status()
        .expect("cpio");
    assert!(status.success());
    out
}

/// Boots with `change` applied to a small configuration; gives the console and the exit report.
fn boot(script: &str, change: impl FnOnce(&mut Value)) -> (String, Value) {
    let folder = tempfile::Builder::new()
        .prefix("virga-boot.")
        .tempdir()
        .expect("a scratch directory");
    let run_dir = folder.path().join("run");
    std::fs::create_dir(&run_dir).expect("make a folder");
    let console = folder.path().join("console.log");
    let mut config = json!({
        "name": "boot",
        "vcpus": 1,
        "memory_bytes": 160 << 20,
        "kernel": {
            "path": dist().join("share/virga/vmlinux"),
            "cmdline": "console=ttyS0 quiet panic=-1",
            "initrd": [initrd(folder.path(), script)],
        },
        "serial": { "log": console },
        "run_dir": run_dir,
    });
    change(&mut config);
    let spec = folder.path().join("spec.json");
    std::fs::write(&spec, config.to_string()).expect("write the configuration");
    let mut vmm = Command::new(dist().join("bin/virga-vmm"))
        .arg("--config")
        .arg(&spec)
        .stdin(Stdio::null())
        .spawn()
        .expect("start virga-vmm");
    let began = Instant::now();
    while vmm.try_wait().expect("wait for virga-vmm").is_none() {
        let text = std::fs::read_to_string(&console).unwrap_or_default();
        if began.elapsed() > Duration::from_secs(180) {
            vmm.kill().expect("end virga-vmm");
            vmm.wait().expect("wait for virga-vmm");
            panic!("the guest did not end; its console:\n{text}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let text = std::fs::read_to_string(&console).unwrap_or_default();
    let report = std::fs::read_to_string(run_dir.join("exit.json")).unwrap_or_else(|err| {
        panic!("no exit report ({err}); the console:\n{text}");
    });
    (text, serde_json::from_str(&report).expect("a JSON report"))
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
        echo hi | dd of=/dev/vda bs=512 seek=1 conv=fsync 2>/dev/null; cat /sys/class/misc/hw_random/rng_current
        poweroff -f";
    let (console, report) = boot(script, |config| {
        config["disks"] = json!([{ "id": "root", "path": disk }]);
        config["rng"] = json!(true);
    });
    assert!(console.contains("cpus 1"), "{console}");
    assert!(console.contains("disk VVVV 2048"), "{console}");
    assert!(console.contains("virtio_rng"), "{console}");
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
        "echo disk $(head -c 4 /dev/vda); ls /sys/bus/pci/devices; poweroff -f",
        |config| {
            config["disks"] = json!([{ "id": "root", "path": disk }]);
            config["transport"] = json!("mmio");
        },
    );
    assert!(console.contains("disk MMMM"), "{console}");
    assert_eq!(report["reason"], "poweroff", "{report}");
}
