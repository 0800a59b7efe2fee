//! Commands in a running container.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::TestContainer;
use guest_agent::client::{self, ExecEvent};
use guest_agent::protocol::ExecRequest;

fn running() -> TestContainer {
    let mut container = TestContainer::script("echo up; sleep 1000");
    container.start();
    container.until_console("up");
    container
}

#[tokio::test]
async fn a_command_runs_with_the_containers_rights_and_its_status_comes_back() {
    let container = running();
    let (out, err, status) = container
        .exec(&["sh", "-c", "echo out; echo err >&2; exit 9"])
        .await;
    assert_eq!((out.as_str(), err.as_str(), status), ("out\n", "err\n", 9));
    let script = "hostname; id -u; test -e /proc/1/root/bin/busybox && echo same; grep -E '^(CapBnd|Seccomp):' /proc/1/status /proc/self/status | cut -d: -f2- ; cat /proc/self/cgroup | grep -v ':/$' | wc -l; ls /proc/self/fd | wc -l";
    let (out, err, status) = container.exec(&["sh", "-c", script]).await;
    assert_eq!(status, 0, "{err}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..3],
        [container.spec.hostname.as_str(), "0", "same"],
        "{out}"
    );
    assert_eq!(lines[3..5], lines[5..7], "other rights than init's: {out}");
    assert_eq!(lines[7], "0", "outside of the container's control groups: {out}");
    // 0, 1, 2 and the directory being listed.
    assert_eq!(lines[8], "4", "descriptors of the host have come along: {out}");
}

#[tokio::test]
async fn the_agent_cannot_be_inspected_from_inside() {
    let container = running();
    let script = "for p in /proc/[0-9]*; do n=$(cat $p/comm); if [ $n = virga-run ]; then ls $p/fd $p/root 2>&1; cat $p/environ 2>&1; fi; done";
    let (out, _, _) = container.exec(&["sh", "-c", script]).await;
    assert!(out.contains("Permission denied"), "{out}");
    assert_eq!(
        out.lines()
            .filter(|line| !line.contains("denied") && !line.ends_with(':'))
            .count(),
        0,
        "{out}"
    );
}

#[tokio::test]
async fn missing_commands_and_files_that_are_no_programs_have_their_own_status() {
    let container = running();
    for (command, expected) in [("no-such-command", 127), ("/etc/passwd", 126)] {
        let (_, _, status) = container.exec(&[command]).await;
        assert_eq!(status, expected, "{command}");
    }
}

#[tokio::test]
async fn a_terminal_has_the_size_asked_for_and_takes_input() {
    let container = running();
    let request = ExecRequest {
        command: vec![
            "sh".into(),
            "-c".into(),
            "tty; stty size; read line; echo got $line".into(),
        ],
        terminal: true,
        width: 91,
        height: 27,
        stdin: true,
        ..ExecRequest::default()
    };
    let stream = client::exec(container.attach(), request).await.unwrap();
    let (mut stdin, _control, mut events) = stream.split();
    stdin.write(&b"words\n"[..]).await.unwrap();
    let mut seen = String::new();
    let status = loop {
        match events.next().await.unwrap().unwrap() {
            ExecEvent::Stdout(bytes) | ExecEvent::Stderr(bytes) => {
                seen.push_str(&String::from_utf8_lossy(&bytes))
            }
            ExecEvent::Exit(status) => break status,
        }
    };
    assert_eq!(status, 0, "{seen}");
    assert!(
        seen.contains("/dev/pts/") && seen.contains("27 91") && seen.contains("got words"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_command_ends_when_nobody_listens_any_more() {
    let container = running();
    let request = ExecRequest {
        command: vec!["sleep".into(), "777".into()],
        ..ExecRequest::default()
    };
    let stream = client::exec(container.attach(), request).await.unwrap();
    let count = || async {
        container
            .exec(&["pgrep", "-f", "sleep 777"])
            .await
            .0
            .lines()
            .count()
    };
    for _ in 0..400 {
        if count().await == 1 {
            break;
        }
    }
    drop(stream);
    for _ in 0..400 {
        if count().await == 0 {
            return;
        }
    }
    panic!("the command runs on");
}

#[tokio::test]
async fn state_tells_about_the_container_not_the_host() {
    let container = running();
    let state = client::state(container.attach()).await.unwrap();
    let json = serde_json::to_value(&state).unwrap();
    assert!(json["network"]["lo"].is_object(), "{json}");
    assert_eq!(
        json["network"].as_object().unwrap().len(),
        1,
        "links of the host: {json}"
    );
    let hello = client::hello(container.attach()).await.unwrap();
    assert_eq!(hello.hostname, container.spec.hostname);
}

#[tokio::test]
async fn commands_run_in_privileged_containers_too() {
    let mut container = TestContainer::script("echo up; sleep 1000");
    container.spec.idmap = None;
    container.start();
    container.until_console("up");
    let (out, err, status) = container.exec(&["readlink", "-f", "/proc/self/exe"]).await;
    assert_eq!((out.trim(), status), ("/bin/busybox", 0), "{err}");
}

#[tokio::test]
async fn joining_a_container_that_has_ended_fails_quietly() {
    let mut container = TestContainer::script("true");
    container.run();
    assert!(client::hello(container.attach()).await.is_err());
}

#[tokio::test]
async fn joining_a_frozen_container_fails_instead_of_hanging() {
    let container = running();
    container.client().freeze().unwrap();
    let error = client::hello(container.attach()).await.unwrap_err();
    assert!(error.to_string().contains("it is frozen"), "{error}");
    container.client().thaw().unwrap();
    assert!(client::hello(container.attach()).await.is_ok());
}

#[tokio::test]
async fn a_container_that_has_all_its_processes_says_so_to_who_wants_to_run_more() {
    // Init and sleeps; the agent in two halves and its command come on top.
    for (sleeps, words) in [
        (7, "may have 8 and has as many"),
        (6, "may have 8 and has as many"),
        (
            5,
            "\"true\" cannot be started: there are as many processes as the instance may have",
        ),
    ] {
        let script = format!("for i in $(seq {sleeps}); do sleep 1000 & done; echo up; wait");
        let mut container = TestContainer::script(&script);
        container.spec.limits.pids_max = Some(8);
        container.start();
        container.until_console("up");
        let request = ExecRequest {
            command: vec!["true".into()],
            ..ExecRequest::default()
        };
        let error = client::exec(container.attach(), request).await.unwrap_err();
        assert!(error.to_string().contains(words), "{sleeps}: {error}");
        container.client().set_limits(&Default::default()).unwrap();
        let (_, _, status) = container.exec(&["true"]).await;
        assert_eq!(status, 0);
    }
}
