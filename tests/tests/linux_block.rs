//! Linux on disks of every kind: images on others, past the page cache, with several queues; they shrink, grow and stay in order.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use end_to_end::{Guest, virtual_machines_run_here};
use serde_json::json;

const MIB: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(program)
        .args(arguments)
        .arg(path)
        .output()
        .expect("run a program");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A file with an empty ext4.
fn file_system(path: &Path, mebibytes: u64) {
    let file = std::fs::File::create(path).expect("make a file");
    file.set_len(mebibytes * MIB).expect("give it a size");
    run("mkfs.ext4", &["-q", "-F"], path);
}

#[test]
fn linux_keeps_files_on_an_image_that_stands_on_another() {
    if !virtual_machines_run_here("linux_keeps_files_on_an_image_that_stands_on_another") {
        return;
    }
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| folder.path().join(name);
    file_system(&path("raw"), 64);
    let convert = "qemu-img convert -O qcow2 -c raw base.qcow2 && qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2";
    let shell = ["-ec", &format!("cd \"$1\"; {convert}"), "sh"];
    run("sh", &shell, folder.path());
    let base = std::fs::read(path("base.qcow2")).expect("read the base");
    let write = "mkdir /d; mount /dev/vda /d
        dd if=/dev/urandom of=/d/file bs=64k count=100 2>/dev/null; sync
        sha256sum /d/file | cut -c1-64 >/d/sum; dd if=/dev/zero of=/d/zeroes bs=1M count=4 2>/dev/null; umount /d; echo written; poweroff -f";
    let read = "mkdir /d; mount -o ro /dev/vda /d
        [ \"$(sha256sum /d/file | cut -c1-64)\" = \"$(cat /d/sum)\" ] && echo the same $(stat -c %s /d/zeroes)
        umount /d; poweroff -f";
    for (script, expected) in [(write, "written"), (read, "the same 4194304")] {
        let guest = Guest::start(script, |config| {
            config["disks"] = json!([{
                "id": "root", "path": path("top.qcow2"), "format": "qcow2",
                "backing": [{"path": path("base.qcow2"), "format": "qcow2"}],
            }]);
        });
        let (console, report) = guest.end();
        assert!(console.contains(expected), "{report} {console}");
        assert_eq!(report["reason"], "poweroff", "{report} {console}");
        run("qemu-img", &["check", "-q"], &path("top.qcow2"));
    }
    assert_eq!(
        std::fs::read(path("base.qcow2")).expect("read the base"),
        base,
        "the base has changed"
    );
}

#[test]
fn linux_trims_a_disk_past_the_page_cache_and_sees_it_grow() {
    if !virtual_machines_run_here("linux_trims_a_disk_past_the_page_cache_and_sees_it_grow") {
        return;
    }
    // O_DIRECT wants a file system that has it, which a tmpfs on /tmp need not be.
    let folder = tempfile::tempdir_in("/var/tmp").expect("a scratch directory");
    let (disk, other) = (folder.path().join("disk"), folder.path().join("other"));
    file_system(&disk, 64);
    std::fs::write(&other, vec![b'o'; MIB as usize]).expect("write a file");
    let script = "echo serial $(cat /sys/block/vda/serial) queues $(ls /sys/block/vda/mq | wc -l) ro $(cat /sys/block/vdb/ro)
        mkdir /d; mount /dev/vda /d; dd if=/dev/urandom of=/d/file bs=1M count=32 2>/dev/null; sync; echo full
        read -r _; rm /d/file; sync; fstrim /d; echo trimmed
        while [ $(cat /sys/block/vda/size) -lt 262144 ]; do sleep 1; done; echo grown
        dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null || echo refused
        umount /d; poweroff -f";
    let mut guest = Guest::start(script, |config| {
        config["vcpus"] = json!(2);
        config["disks"] = json!([
            {"id": "data", "path": disk, "direct": true, "queues": 2, "serial": "SERIAL-1"},
            {"id": "other", "path": other, "read_only": true},
        ]);
    });
    let client = guest.client();
    guest.wait_for("full");
    let blocks = |path: &Path| std::fs::metadata(path).expect("look at the file").blocks() * 512;
    let full = blocks(&disk);
    guest.type_line("");
    guest.wait_for("trimmed");
    let trimmed = blocks(&disk);
    assert!(full - trimmed >= 30 * MIB, "{full} bytes before, {trimmed} after");
    let size = json!({"size_bytes": 128 * MIB});
    client.update_device("data", &size).expect("a new size");
    guest.wait_for("grown");
    let (console, report) = guest.end();
    assert_eq!(report["reason"], "poweroff", "{report} {console}");
    for expected in ["serial SERIAL-1 queues 2 ro 1", "refused"] {
        assert!(console.contains(expected), "{expected}: {console}");
    }
    run("e2fsck", &["-f", "-n"], &disk);
}
