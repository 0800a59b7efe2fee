//! What outlives the daemon, and what a second one does.

#![allow(clippy::expect_used, reason = "a step that fails fails the test")]

use std::process::Stdio;

use end_to_end::{Host, virtual_machines_run_here};

#[test]
fn instances_outlive_a_killed_daemon_and_are_adopted() {
    let mut host = Host::start();
    host.import_busybox();
    host.virga().ok(&["launch", "bb", "c1"]);
    let before = host.state_of("c1")["pid"].clone();
    host.virga()
        .ok(&["exec", "-n", "c1", "--", "sh", "-c", "echo kept > /tmp/note"]);
    host.kill_daemon();
    assert!(
        !host.supervisors().is_empty(),
        "the container ended with the daemon"
    );
    host.start_daemon();
    assert_eq!(host.state_of("c1")["status"], "Running");
    assert_eq!(host.state_of("c1")["pid"], before);
    assert_eq!(
        host.virga().ok(&["exec", "-n", "c1", "--", "cat", "/tmp/note"]),
        "kept\n"
    );
    host.virga().ok(&["delete", "--force", "c1"]);
    assert_eq!(host.supervisors(), []);
}

#[test]
fn an_instance_that_ends_while_the_daemon_is_away_is_found_stopped() {
    let mut host = Host::start();
    host.import_busybox();
    host.virga().ok(&["launch", "bb", "c1"]);
    host.kill_daemon();
    for (pid, _) in host.supervisors() {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid"));
        // Ending one may end another first.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    host.wait_for("the end of the container", |host| host.supervisors().is_empty());
    host.start_daemon();
    assert_eq!(host.state_of("c1")["status"], "Stopped");
    host.virga().ok(&["start", "c1"]);
    assert_eq!(host.virga().ok(&["exec", "-n", "c1", "--", "hostname"]), "c1\n");
}

#[test]
fn an_orderly_stop_leaves_instances_running_and_exits_with_zero() {
    let mut host = Host::start();
    host.import_busybox();
    host.virga().ok(&["launch", "bb", "c1"]);
    assert_eq!(host.stop_daemon(), Some(0));
    assert!(
        !host.supervisors().is_empty(),
        "the container ended with the daemon"
    );
    host.start_daemon();
    assert_eq!(host.state_of("c1")["status"], "Running");
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let host = Host::start();
    let program = format!("{}/bin/virgad", std::env::var("VIRGA_DIST").expect("VIRGA_DIST"));
    let second = host
        .inside(&program)
        .arg("--state-dir")
        .arg(host.state_dir())
        .stdin(Stdio::null())
        .output()
        .expect("the second daemon");
    assert!(!second.status.success());
    let message =
        String::from_utf8_lossy(&second.stderr).into_owned() + &String::from_utf8_lossy(&second.stdout);
    assert!(
        message.contains(&host.state_dir().to_string_lossy().into_owned()),
        "{message}"
    );
    assert_eq!(
        host.virga().call(&["daemon", "status"]).status,
        0,
        "the first daemon was disturbed"
    );
}

#[test]
fn a_virtual_machine_outlives_a_killed_daemon_and_reboots_under_the_next() {
    if !virtual_machines_run_here("a_virtual_machine_outlives_a_killed_daemon_and_reboots_under_the_next") {
        return;
    }
    let mut host = Host::start();
    host.import_busybox();
    host.virga()
        .ok(&["launch", "bb", "v1", "--vm", "--memory", "160MiB"]);
    host.virga().ok(&[
        "exec",
        "-n",
        "v1",
        "--",
        "sh",
        "-c",
        "echo kept > /tmp/note; echo disk > /root/note; sync",
    ]);
    let before = host.state_of("v1")["pid"].clone();
    host.kill_daemon();
    host.start_daemon();
    assert_eq!(host.state_of("v1")["status"], "Running");
    assert_eq!(host.state_of("v1")["pid"], before);
    assert_eq!(
        host.virga().ok(&["exec", "-n", "v1", "--", "cat", "/tmp/note"]),
        "kept\n"
    );
    // The guest's own reboot ends one VMM and starts the next, by whoever is the daemon then.
    host.virga().ok(&["exec", "-n", "v1", "--", "reboot"]);
    host.wait_for("the next VMM", |host| {
        let state = host.state_of("v1");
        state["status"] == "Running" && state["pid"] != before
    });
    assert_eq!(
        host.virga().ok(&["exec", "-n", "v1", "--", "cat", "/root/note"]),
        "disk\n"
    );
    host.virga().ok(&["delete", "--force", "v1"]);
    assert_eq!(host.supervisors(), []);
}
