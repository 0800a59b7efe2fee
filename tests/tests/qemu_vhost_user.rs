//! `virga-vhost-user` under another VMM: Linux in QEMU, which needs no KVM for this. Without `VIRGA_QEMU`, the folder that QEMU
//! is unpacked in, there is no story to tell.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use end_to_end::network::{BULK, exchange, in_own_network};
use end_to_end::{BackEnd, initrd, skipped};
use serde_json::json;

/// Longer than a guest takes to boot on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(180);

fn dist() -> PathBuf {
    std::env::var_os("VIRGA_DIST").expect("VIRGA_DIST").into()
}

fn qemu(test: &str) -> Option<PathBuf> {
    let qemu = std::env::var_os("VIRGA_QEMU");
    if qemu.is_none() {
        skipped(test, "VIRGA_QEMU is not set");
    }
    qemu.map(PathBuf::from)
}

/// A program that is gone with the test.
struct Program(Child);

impl Drop for Program {
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
        .map(Program)
        .expect("start QEMU");
    finish(child)
}

/// What a program printed until its end.
fn finish(mut program: Program) -> String {
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
    let Some(qemu) = qemu("linux_in_qemu_reads_and_writes_a_disk_of_ours") else {
        return;
    };
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

/// The guest's card has another address than ours would have: what front end and driver agree on is not told to back ends.
#[test]
fn linux_in_qemu_moves_data_both_ways_by_a_network_card_of_ours() {
    let Some(qemu) = qemu("linux_in_qemu_moves_data_both_ways_by_a_network_card_of_ours") else {
        return;
    };
    in_own_network("tap", || {
        let folder = scratch();
        let device = json!({"net": {"id": "eth0", "tap": "tap0", "mac": "10:66:6a:00:00:01"}});
        let _back_end = BackEnd::start(folder.path(), &device);
        let listener = TcpListener::bind("10.80.0.1:5000").expect("listen");
        let transfer = std::thread::spawn(move || exchange(&listener));
        let script = "ip link set eth0 up; ip address add 10.80.0.2/24 dev eth0
            ping -c 3 -W 10 10.80.0.1
            nc 10.80.0.1 5000 </dev/null >/in; wc -c </in; nc 10.80.0.1 5000 </in
            poweroff -f";
        let card = [
            "-netdev",
            "vhost-user,id=n,chardev=end",
            "-device",
            "virtio-net-pci,netdev=n",
        ];
        let console = boot(&qemu, folder.path(), script, &card);
        assert!(console.contains("3 packets received"), "{console}");
        assert!(console.contains(&BULK.to_string()), "{console}");
        transfer.join().expect("the transfer");
    });
}
