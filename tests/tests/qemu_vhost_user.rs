//! `virga-vhost-user` under another VMM: Linux in QEMU, which needs no KVM for this. Without `VIRGA_QEMU`, the folder that QEMU
//! is unpacked in, there is no story to tell.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::initrd;
use serde_json::{Value, json};

/// Longer than a guest takes to boot on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(180);

fn dist() -> PathBuf {
    std::env::var_os("VIRGA_DIST").expect("VIRGA_DIST").into()
}

fn qemu() -> Option<PathBuf> {
    let qemu = std::env::var_os("VIRGA_QEMU");
    if qemu.is_none() {
        eprintln!("skipped: VIRGA_QEMU is not set");
    }
    qemu.map(PathBuf::from)
}

/// A back end that is gone with the test.
struct BackEnd(Child);

impl BackEnd {
    fn start(folder: &Path, device: &Value) -> Self {
        let _ = std::fs::remove_file(folder.join("socket"));
        let program = Command::new(dist().join("bin/virga-vhost-user"))
            .args([
                "--socket",
                "socket",
                "--uid",
                "54321",
                "--device",
                &device.to_string(),
            ])
            .current_dir(folder)
            .spawn()
            .expect("start virga-vhost-user");
        let began = Instant::now();
        while !folder.join("socket").exists() {
            assert!(began.elapsed() < PATIENCE, "the back end does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(program)
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots Linux in QEMU with a device of the back end; gives what the guest printed.
fn boot(qemu: &Path, folder: &Path, script: &str, device: &[&str]) -> String {
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|path| qemu.join(path));
    let libraries = std::env::join_paths(libraries).expect("paths");
    let mut command = Command::new(qemu.join("usr/bin/qemu-system-x86_64"));
    command.env("LD_LIBRARY_PATH", libraries).current_dir(folder);
    for data in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
        command.arg("-L").arg(qemu.join(data));
    }
    command
        .args([
            "-M",
            "q35",
            "-accel",
            "tcg",
            "-m",
            "256",
            "-nodefaults",
            "-no-reboot",
        ])
        .args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-machine",
            "memory-backend=mem",
        ])
        .args(["-object", "memory-backend-memfd,id=mem,size=256M,share=on"])
        .arg("-kernel")
        .arg(dist().join("share/virga/vmlinux"))
        .arg("-initrd")
        .arg(initrd(folder, script))
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .args(["-chardev", "socket,id=end,path=socket"])
        .args(device)
        .stdin(Stdio::null());
    let child = command
        .stdout(Stdio::piped())
        .spawn()
        .map(BackEnd)
        .expect("start QEMU");
    finish(child)
}

/// What a program printed until its end.
fn finish(mut program: BackEnd) -> String {
    let mut stdout = program.0.stdout.take().expect("its output");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut stdout, &mut bytes).expect("read its output");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let began = Instant::now();
    while program.0.try_wait().expect("wait for it").is_none() {
        if began.elapsed() > PATIENCE {
            drop(program);
            panic!("the guest did not end: {}", reader.join().expect("its output"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    reader.join().expect("its output")
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("virga-qemu.")
        .tempdir()
        .expect("a scratch directory")
}

#[test]
fn linux_in_qemu_reads_and_writes_a_disk_of_ours() {
    let Some(qemu) = qemu() else { return };
    let folder = scratch();
    let disk = folder.path().join("disk");
    std::fs::write(&disk, vec![b'Q'; 4 << 20]).expect("write a disk");
    let device = json!({"disk": {"id": "d", "path": "disk", "serial": "from-virga"}});
    let _back_end = BackEnd::start(folder.path(), &device);
    let script = "echo disk $(head -c 4 /dev/vda) $(cat /sys/block/vda/size) $(cat /sys/block/vda/serial)
        echo hi | dd of=/dev/vda bs=512 seek=1 conv=fsync 2>/dev/null
        cat /dev/vda | wc -c
        poweroff -f";
    let console = boot(
        &qemu,
        folder.path(),
        script,
        &["-device", "vhost-user-blk-pci,chardev=end"],
    );
    assert!(console.contains("disk QQQQ 8192 from-virga"), "{console}");
    assert!(console.contains("4194304"), "{console}");
    assert_eq!(&std::fs::read(&disk).expect("read the disk")[512..515], b"hi\n");
}
