//! Disks on images, on what those stand on, and past the page cache; disks that grow under a guest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::disk_driver::{DATA, USED, disk, read_request};
use common::payload::Payload;
use common::pci_driver::FIRST;
use common::vm::{Ended, Spec, has_kvm};
use serde_json::{Value, json};

fn qemu_img(folder: &Path, arguments: &[&str]) {
    let output = Command::new("qemu-img")
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A guest that reads the third sector of its disk and prints the start of it.
fn reader(len: u32) -> Payload {
    read_request(FIRST.set_up(Payload::new()), 2)
        .store16(FIRST.notify(), 0)
        .wait16(USED + 2, 1)
        .print_memory(DATA, len)
        .power_off()
}

fn boot(text: &str, images: &[&[&str]], disk_config: Value) -> Ended {
    let spec = Spec::new(&reader(text.len() as u32));
    spec.file("base.raw", &disk(text));
    let folder = spec.folder.path().to_owned();
    for arguments in images {
        qemu_img(&folder, arguments);
    }
    let mut disk_config = disk_config;
    let path = folder.join(disk_config["path"].as_str().unwrap());
    disk_config["path"] = json!(path);
    for backing in disk_config
        .get_mut("backing")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        backing["path"] = json!(folder.join(backing["path"].as_str().unwrap()));
    }
    spec.set("disks", json!([disk_config])).run_to_end()
}

const TOP: &[&str] = &[
    "create",
    "-f",
    "qcow2",
    "-F",
    "qcow2",
    "-b",
    "middle.qcow2",
    "top.qcow2",
];
const MIDDLE: &[&str] = &[
    "create",
    "-f",
    "qcow2",
    "-F",
    "raw",
    "-b",
    "base.raw",
    "middle.qcow2",
];

#[test]
fn a_guest_reads_through_a_chain_of_images_that_was_listed_or_is_trusted() {
    if !has_kvm() {
        return;
    }
    let text = "from the bottom of the chain";
    let listed = json!([{"path": "middle.qcow2", "format": "qcow2"}, {"path": "base.raw"}]);
    for disk in [
        json!({"id": "d", "path": "top.qcow2", "format": "qcow2", "backing": listed}),
        json!({"id": "d", "path": "top.qcow2", "format": "qcow2", "follow_backing": true, "queues": 2}),
        json!({"id": "d", "path": "top.qcow2", "format": "qcow2", "follow_backing": true, "read_only": true}),
    ] {
        let ended = boot(text, &[MIDDLE, TOP], disk);
        assert_eq!(ended.console, text, "{}", ended.stderr);
    }
}

#[test]
fn an_image_does_not_choose_files_of_the_host_by_itself() {
    if !has_kvm() {
        return;
    }
    let loop_back: &[&str] = &["rebase", "-u", "-F", "qcow2", "-b", "top.qcow2", "middle.qcow2"];
    let cases: [(&[&[&str]], Value, &str); 5] = [
        (
            &[MIDDLE, TOP],
            json!({}),
            "list that in `backing`, or set `follow_backing`",
        ),
        (
            &[MIDDLE, TOP],
            json!({"backing": [{"path": "middle.qcow2", "format": "qcow2"}]}),
            "it stands on \"base.raw\"",
        ),
        (
            &[MIDDLE, TOP, loop_back],
            json!({"follow_backing": true, "read_only": true}),
            "stands on itself",
        ),
        (
            &[MIDDLE, TOP],
            json!({"backing": [{"path": "middle.qcow2", "format": "qcow2"}, {"path": "base.raw"}, {"path": "base.raw"}]}),
            "a raw file stands on nothing",
        ),
        (
            &[&["create", "-f", "qcow2", "top.qcow2", "1M"]],
            json!({"backing": [{"path": "base.raw"}]}),
            "leave it out of `backing`",
        ),
    ];
    for (images, more, expected) in cases {
        let mut disk = json!({"id": "d", "path": "top.qcow2", "format": "qcow2"});
        for (name, value) in more.as_object().unwrap() {
            disk[name] = value.clone();
        }
        let ended = boot("secret", images, disk);
        assert_ne!(ended.status, Some(0));
        assert!(
            ended.stderr.contains(expected),
            "{expected} is not in {}",
            ended.stderr
        );
    }
}

#[test]
fn a_guest_reads_past_the_page_cache() {
    if !has_kvm() {
        return;
    }
    let text = "read directly";
    let ended = boot(text, &[], json!({"id": "d", "path": "base.raw", "direct": true}));
    if ended.stderr.contains("leave `direct` out") {
        eprintln!("skipped: no direct I/O here");
        return;
    }
    assert_eq!(ended.console, text, "{}", ended.stderr);
}

#[test]
fn disks_grow_while_the_guest_runs() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&FIRST.set_up(Payload::new()).print("up").forever());
    let raw = spec.file("raw", &[0; 8192]);
    qemu_img(spec.folder.path(), &["create", "-f", "qcow2", "image", "1M"]);
    let image = spec.folder.path().join("image");
    let mut vm = spec
        .set(
            "disks",
            json!([{"id": "raw", "path": raw}, {"id": "image", "path": image, "format": "qcow2"}]),
        )
        .start();
    let client = vm.client();
    vm.wait_for("up");
    for id in ["raw", "image"] {
        let answer = client.update_device(id, &json!({"size_bytes": 4 << 20})).unwrap();
        assert_eq!(answer["size_bytes"], 4 << 20);
        assert!(client.update_device(id, &json!({"size_bytes": 512})).is_err());
        client
            .update_device(id, &json!({"limits": {"bytes_per_second": 1000}}))
            .unwrap();
    }
    assert_eq!(fs::metadata(&raw).unwrap().len(), 4 << 20);
    client.stop().unwrap();
    let folder = vm.spec.folder.path().to_owned();
    let keep = vm.spec.folder.path().join("kept");
    fs::copy(&image, &keep).unwrap();
    qemu_img(&folder, &["check", "kept"]);
    vm.end();
}
