//! Start, stop, reboot, freeze, console, and monitors that die.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use common::{TestContainer, VIRGA_RUN};
use container_runtime::spec::Limits;
use container_runtime::state::{ExitReason, Phase};
use container_runtime::{Error, cleanup, process, run_dir, socket};

#[test]
fn nothing_of_the_image_runs_before_start() {
    let mut container = TestContainer::script("echo started; sleep 1000");
    container.create();
    let state = container.client().state().unwrap();
    assert_eq!(state.state, Phase::Created);
    assert!(Path::new(&format!("/proc/{}/ns/net", state.init_pid)).exists());
    assert_eq!(container.console(), "");
    container.client().start().unwrap();
    container.until_console("started");
    assert_eq!(container.client().state().unwrap().state, Phase::Running);
    assert!(matches!(
        container.client().start(),
        Err(Error::Refused { status: 409, .. })
    ));
}

#[test]
fn the_exit_status_is_kept_and_nothing_else() {
    let mut container = TestContainer::script("exit 42");
    let (_, exit) = container.run();
    assert_eq!((exit.reason, exit.status), (ExitReason::Exited, Some(42)));
    assert!(container.cgroups().is_empty());
    assert!(!container.path().join(run_dir::CONTROL_SOCKET).exists());
    assert!(!container.path().join(run_dir::CONSOLE_SOCKET).exists());
}

#[test]
fn a_program_that_does_not_exist_is_reported_by_name() {
    let mut container = TestContainer::new(&["/no/such/program"]);
    container.create();
    let error = container.client().start().unwrap_err().chain();
    assert!(
        error.contains("/no/such/program") && error.contains("No such file"),
        "{error}"
    );
    let exit = container.wait();
    assert_eq!(exit.reason, ExitReason::Error);
    assert!(exit.message.contains("/no/such/program"), "{}", exit.message);
}

#[test]
fn a_bad_specification_ends_in_exit_json() {
    let mut container = TestContainer::script("true");
    container.spec.rootfs = "/does/not/exist".into();
    container.create();
    let exit = container.wait();
    assert_eq!(exit.reason, ExitReason::Error);
    assert!(exit.message.contains("/does/not/exist"), "{}", exit.message);
    assert!(container.cgroups().is_empty());
}

#[test]
fn a_killed_container_says_so() {
    let mut container = TestContainer::script("sleep 1000");
    container.start();
    container.client().kill(9).unwrap();
    let exit = container.wait();
    assert_eq!((exit.reason, exit.status), (ExitReason::Killed, Some(137)));
}

#[test]
fn a_plain_program_gets_sigterm_when_the_monitor_is_asked_to_end() {
    let mut container =
        TestContainer::script("trap 'echo bye; exit 5' TERM; echo up; while true; do sleep 0.05; done");
    container.start();
    container.until_console("up");
    container.terminate_monitor();
    let exit = container.wait();
    assert_eq!((exit.reason, exit.status), (ExitReason::Exited, Some(5)));
    assert!(container.console().contains("bye"));
}

#[test]
fn one_that_ignores_the_request_is_killed_in_time() {
    let mut container = TestContainer::script("trap '' TERM; echo up; while true; do sleep 0.05; done");
    container.spec.stop_timeout_seconds = 1;
    container.start();
    container.until_console("up");
    container.terminate_monitor();
    assert_eq!(container.wait().reason, ExitReason::Killed);
}

#[test]
fn a_container_that_was_never_started_ends_with_its_monitor() {
    let mut container = TestContainer::script("sleep 1000");
    container.create();
    container.terminate_monitor();
    assert_eq!(container.wait().reason, ExitReason::Killed);
}

#[test]
fn busybox_init_boots_and_shuts_down() {
    let mut container = TestContainer::new(&["/sbin/init"]);
    container.start();
    container.until_console("up\n");
    let state = container.client().state().unwrap();
    assert_eq!(
        (state.stop_signal, state.reboot_signal),
        (libc::SIGUSR2, Some(libc::SIGTERM))
    );
    container.client().kill(state.stop_signal).unwrap();
    let exit = container.wait();
    assert_eq!(exit.reason, ExitReason::Poweroff, "{}", container.console());
}

#[test]
fn a_reboot_is_told_from_a_power_off() {
    for (command, reason) in [
        ("reboot -f", ExitReason::Reset),
        ("poweroff -f", ExitReason::Poweroff),
        ("halt -f", ExitReason::Poweroff),
    ] {
        let mut container = TestContainer::script(command);
        let (console, exit) = container.run();
        assert_eq!(exit.reason, reason, "{command}: {console}");
    }
}

#[test]
fn frozen_processes_do_nothing_until_thawed() {
    let mut container = TestContainer::script("while true; do echo tick; sleep 0.02; done");
    container.start();
    container.until_console("tick");
    container.client().freeze().unwrap();
    assert_eq!(container.client().state().unwrap().state, Phase::Frozen);
    let before = container.console();
    std::thread::sleep(Duration::from_millis(200));
    // What was in the terminal's buffer may still arrive once.
    let frozen = container.console();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(container.console(), frozen);
    container.client().thaw().unwrap();
    container.until("it ticks again", |c| c.console().len() > before.len() + 20);
    container.client().freeze().unwrap();
    container.client().kill(9).unwrap();
    assert_eq!(container.wait().reason, ExitReason::Killed);
}

#[test]
fn the_console_can_be_watched_typed_on_and_resized() {
    let mut container =
        TestContainer::script("echo ready; while read line; do echo \"<$line>\"; stty size; done");
    container.start();
    container.until_console("ready");
    let mut first = socket::connect(&container.path().join(run_dir::CONSOLE_SOCKET)).unwrap();
    let mut second = socket::connect(&container.path().join(run_dir::CONSOLE_SOCKET)).unwrap();
    container.client().console_size(123, 45).unwrap();
    // Both are on before anything is typed.
    std::thread::sleep(Duration::from_millis(50));
    first.write_all(b"hello\n").unwrap();
    for stream in [&mut first, &mut second] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut seen = Vec::new();
        let mut chunk = [0; 256];
        while !String::from_utf8_lossy(&seen).contains("45 123") {
            let n = stream.read(&mut chunk).unwrap();
            assert_ne!(n, 0);
            seen.extend_from_slice(&chunk[..n]);
        }
        assert!(String::from_utf8_lossy(&seen).contains("<hello>"));
    }
    drop(first);
    second.write_all(b"again\n").unwrap();
    container.until_console("<again>");
}

#[test]
fn a_container_dies_with_its_monitor_and_leaves_nothing() {
    let mut container = TestContainer::script("(sleep 1000 &); (sleep 1000 &); echo up; sleep 1000");
    container.start();
    container.until_console("up");
    let init = container.init_pid();
    let start = process::start_time(init).unwrap();
    assert!(!container.cgroups().is_empty());
    container.kill_monitor();
    container.until("init is dead", |_| !process::is_alive(init, start));
    assert!(
        container.exit_file().is_none(),
        "a killed monitor cannot have written it"
    );
    for _ in 0..2 {
        cleanup(container.path()).unwrap();
        assert!(container.cgroups().is_empty());
        let mut left: Vec<String> = fs::read_dir(container.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".sock") || name.ends_with(".json"))
            .collect();
        left.sort();
        assert_eq!(left, ["spec.json"]);
    }
}

#[test]
fn cleanup_ends_a_living_monitor_and_works_as_a_command() {
    let mut container = TestContainer::script("sleep 1000");
    container.start();
    let init = container.init_pid();
    let start = process::start_time(init).unwrap();
    let status = std::process::Command::new(VIRGA_RUN)
        .args(["cleanup", "--run-dir"])
        .arg(container.path())
        .status();
    assert!(status.unwrap().success());
    assert!(!process::is_alive(init, start));
    assert!(container.cgroups().is_empty());
}

#[test]
fn a_new_monitor_starts_over_what_a_killed_one_left() {
    let mut container = TestContainer::script("echo up; sleep 1000");
    container.start();
    container.kill_monitor();
    container.start();
    container.until_console("up");
    container.client().kill(9).unwrap();
    container.wait();
}

#[test]
fn long_run_directories_are_no_problem() {
    let outer = tempfile::tempdir().unwrap();
    let long = outer.path().join("x".repeat(120));
    fs::create_dir(&long).unwrap();
    let dir = tempfile::tempdir_in(&long).unwrap();
    let root = dir.path().join("rootfs");
    common::busybox_image(&root);
    let mut container = TestContainer::with_root(dir, root, &["/bin/sh", "-c", "echo up; sleep 1000"]);
    container.start();
    container.until_console("up");
    container.client().kill(9).unwrap();
    container.wait();
}

#[test]
fn the_control_socket_refuses_nonsense_and_stays_up() {
    let mut container = TestContainer::script("sleep 1000");
    container.start();
    let path = container.path().join(run_dir::CONTROL_SOCKET);
    let ask = |text: &[u8]| {
        let mut stream = socket::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask(b"GET /nowhere HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(ask(b"DELETE /state HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(
        ask(b"PUT /kill HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"signal\":999}").starts_with("HTTP/1.1 400 ")
    );
    assert!(ask(b"PUT /kill HTTP/1.1\r\nContent-Length: 3\r\n\r\n{]}").starts_with("HTTP/1.1 400 "));
    assert!(ask(b"\x00\x01\x02\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(ask(&[b'A'; 20_000]).starts_with("HTTP/1.1 400 "));
    let limits = Limits {
        memory_bytes: Some(7),
        ..Limits::default()
    };
    assert!(matches!(
        container.client().set_limits(&limits),
        Err(Error::Refused { status: 400, .. })
    ));
    assert_eq!(container.client().state().unwrap().state, Phase::Running);
}

#[test]
fn a_file_system_that_cannot_shift_ids_is_named() {
    // The kernel shifts the layers of an overlay, not the overlay.
    let dir = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work", "rootfs"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    common::busybox_image(&dir.path().join("lower"));
    let place = |name: &str| dir.path().join(name).display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        place("lower"),
        place("upper"),
        place("work")
    );
    let root = dir.path().join("rootfs");
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        none,
        Some(options.as_str()),
    )
    .unwrap();
    let mut container = TestContainer::with_root(dir, root.clone(), &["/bin/true"]);
    container.create();
    let exit = container.wait();
    nix::mount::umount(&root).unwrap();
    assert_eq!(exit.reason, ExitReason::Error);
    assert!(
        exit.message.contains("shifted user ids") && exit.message.contains("privileged"),
        "{}",
        exit.message
    );
}

#[test]
fn monitors_killed_at_any_moment_leave_nothing_after_cleanup() {
    let mut container = TestContainer::script("sleep 1000 & sleep 1000");
    run_dir::write_document(container.path(), run_dir::SPEC, &container.spec, false).unwrap();
    for step in 0..24 {
        let mut monitor = std::process::Command::new(VIRGA_RUN)
            .args(["monitor", "--run-dir"])
            .arg(container.path())
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(step * 700));
        if step % 2 == 1
            && let Ok(client) = container_runtime::client::Client::connect(container.path())
        {
            // Killed while it starts, perhaps.
            let _ = client.start();
        }
        monitor.kill().unwrap();
        monitor.wait().unwrap();
        cleanup(container.path()).unwrap();
        assert!(container.cgroups().is_empty(), "step {step}");
        let root = container.rootfs().to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&root), "step {step}: {mounts}");
    }
    // And it can still be used.
    container.start();
    container.client().kill(9).unwrap();
    container.wait();
}
