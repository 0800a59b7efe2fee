//! How guest memory is made, as a guest and its host see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

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
