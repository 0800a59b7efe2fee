//! What a running VM's process has given up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::json;

fn status_of(task: &str) -> Vec<(String, String)> {
    fs::read_to_string(format!("{task}/status"))
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(":\t"))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn field(status: &[(String, String)], name: &str) -> String {
    status
        .iter()
        .find(|(field, _)| field == name)
        .map(|(_, value)| value.clone())
        .unwrap()
}

#[test]
fn every_thread_is_filtered_and_has_no_privileges() {
    if !has_kvm() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut spec = Spec::new(&Payload::new().print("up").forever());
    let disk = spec.file("disk", &[0; 4096]);
    spec = spec
        .set("vcpus", 2.into())
        .set("rng", true.into())
        .set("disks", json!([{"id": "root", "path": disk}]))
        .set("sandbox", json!({"uid": 54321, "gid": 54322}));
    let mut vm = spec.start();
    let client = vm.client();
    vm.wait_for("up");
    let pid = vm.process.id();
    let mut names = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = status_of(task.unwrap().path().to_str().unwrap());
        let name = field(&status, "Name");
        assert_eq!(field(&status, "Seccomp"), "2", "{name}");
        assert_eq!(field(&status, "NoNewPrivs"), "1", "{name}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&status, set), "0000000000000000", "{set} of {name}");
        }
        assert_eq!(field(&status, "Uid"), "54321\t54321\t54321\t54321", "{name}");
        assert_eq!(field(&status, "Gid"), "54322\t54322\t54322\t54322", "{name}");
        assert_eq!(field(&status, "Groups"), "", "{name}");
        names.push(name);
    }
    for expected in ["vcpu0", "vcpu1", "devices"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    // Not dumpable: its files in /proc belong to root.
    assert_eq!(fs::metadata(format!("/proc/{pid}/maps")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(vm.run_dir().join("pid.json")).unwrap().uid(), 54321);
    client.stop().unwrap();
    let ended = vm.end();
    assert!(
        ended.report.is_some(),
        "the report is written without privileges: {}",
        ended.stderr
    );
}

#[test]
fn filters_can_be_left_out_but_privileges_are_dropped_all_the_same() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().forever()).set("sandbox", json!({"seccomp": false}));
    let mut vm = spec.start();
    vm.client().state().unwrap();
    let status = status_of(&format!("/proc/{}", vm.process.id()));
    assert_eq!(
        (field(&status, "Seccomp"), field(&status, "NoNewPrivs")),
        ("0".into(), "1".into())
    );
    assert_eq!(field(&status, "CapEff"), "0000000000000000");
}

#[test]
fn nothing_that_was_inherited_stays_open() {
    if !has_kvm() {
        return;
    }
    let spec = Spec::new(&Payload::new().forever());
    let secret = fs::File::open(spec.file("secret", b"secret")).unwrap();
    nix::fcntl::fcntl(
        &secret,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .unwrap();
    let mut vm = spec.start();
    vm.client().state().unwrap();
    let open: Vec<_> = fs::read_dir(format!("/proc/{}/fd", vm.process.id()))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(open.iter().any(|path| path.ends_with("run")), "{open:?}");
    assert!(!open.iter().any(|path| path.ends_with("secret")), "{open:?}");
    assert!(
        !open.iter().any(|path| path.ends_with("kernel")),
        "the kernel file is closed once it is mapped"
    );
}
