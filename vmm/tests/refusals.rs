//! What `virga-vmm` refuses, and what it says then.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::process::Command;

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::{Value, json};
use vmm::exit::ExitReason;

fn virga_vmm(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_virga-vmm"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn help_and_version_are_there() {
    let (status, help, _) = virga_vmm(&["--help"]);
    assert_eq!(status, Some(0));
    for expected in ["--validate", "curl --unix-socket", "\"kernel\"", "exit.json"] {
        assert!(help.contains(expected), "{expected}");
    }
    assert!(virga_vmm(&["--version"]).1.starts_with("virga-vmm 0."));
    let (status, kind, _) = virga_vmm(&["--probe"]);
    assert_eq!(status, Some(0));
    assert!(
        serde_json::from_str::<Value>(&kind).unwrap()["kind"].is_string(),
        "{kind}"
    );
}

#[test]
fn a_wrong_command_line_or_configuration_has_a_status_of_its_own() {
    for (arguments, expected) in [
        (&[][..], "--config FILE is missing"),
        (&["--frobnicate"], "not an option"),
        (
            &["--config", "/nonexistent.json"],
            "cannot read the configuration /nonexistent.json",
        ),
    ] {
        let (status, _, stderr) = virga_vmm(arguments);
        assert_eq!(status, Some(2));
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn validate_checks_without_running() {
    let spec = Spec::new(&Payload::new());
    let output = spec.command(&["--validate"]).output().unwrap();
    assert!(output.status.success());
    assert!(!spec.folder.path().join("run").exists());
    let spec = spec.set("vcpus", 99.into());
    let output = spec.command(&["--validate"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("`vcpus` is 99: use 1 to 32"), "{stderr}");
}

#[test]
fn what_cannot_be_opened_or_loaded_is_named_on_stderr_and_in_the_exit_report() {
    if !has_kvm() {
        return;
    }
    let payload = Payload::new().forever();
    type Change = fn(&Spec) -> (&'static str, Value);
    let cases: [(Change, &str); 8] = [
        (
            |_| ("kernel", json!({"path": "/nonexistent/vmlinux"})),
            "cannot open /nonexistent/vmlinux",
        ),
        (
            |spec| ("kernel", json!({"path": spec.file("text", b"#!/bin/sh")})),
            "neither an ELF vmlinux nor a bzImage",
        ),
        (
            |spec| {
                (
                    "kernel",
                    json!({"path": spec.folder.path().join("kernel"), "protocol": "pvh"}),
                )
            },
            "no PVH entry note",
        ),
        (
            |spec| {
                (
                    "kernel",
                    json!({"path": spec.folder.path().join("kernel"), "initrd": ["/nonexistent/initrd"]}),
                )
            },
            "kernel.initrd[0]",
        ),
        (
            |_| ("disks", json!([{"id": "root", "path": "/nonexistent/disk"}])),
            "block device \"root\" with /nonexistent/disk",
        ),
        (
            |_| {
                (
                    "nets",
                    json!([{"id": "eth0", "fd": 77, "mac": "10:66:6a:00:00:01"}]),
                )
            },
            "net device \"eth0\" with descriptor 77",
        ),
        (
            |_| ("control_socket", json!("/nonexistent/control.sock")),
            "the control socket \"/nonexistent/control.sock\"",
        ),
        (
            |_| ("serial", json!({"log": "/nonexistent/log"})),
            "the console log \"/nonexistent/log\"",
        ),
    ];
    for (change, expected) in cases {
        let spec = Spec::new(&payload);
        let (field, value) = change(&spec);
        let ended = spec.set(field, value).run_to_end();
        assert_eq!(ended.status, Some(1), "{expected}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(expected),
            "{expected} is not in {}",
            ended.stderr
        );
        let report = ended.report.unwrap();
        assert_eq!(report.reason, ExitReason::Error);
        assert!(
            report.message.contains(expected),
            "{expected} is not in {}",
            report.message
        );
    }
}

#[test]
fn one_disk_is_not_given_to_two_vms() {
    if !has_kvm() {
        return;
    }
    let first = Spec::new(&Payload::new().forever());
    let disk = first.file("disk", &[0; 4096]);
    let disks = json!([{"id": "root", "path": disk}]);
    let mut vm = first.set("disks", disks.clone()).start();
    vm.client();
    let ended = Spec::new(&Payload::new().forever())
        .set("disks", disks)
        .run_to_end();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.stderr.contains("another VM or program uses it"),
        "{}",
        ended.stderr
    );
}
