//! Commands through a served connection: what a user of `exec` sees.

#![allow(clippy::unwrap_used)] // a test that cannot go on ends here

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, agent, exec, request, run};
use guest_agent::client::{self, ClientError, ExecEvent};
use guest_agent::protocol::{
    Control, ErrorKind, ExecRequest, Frame, Request, Response, STDIN_WINDOW, read_frame, write_frame,
};
use tokio::time::timeout;

fn with_terminal(command: &[&str]) -> ExecRequest {
    ExecRequest {
        terminal: true,
        stdin: true,
        width: 80,
        height: 24,
        ..request(command)
    }
}

#[tokio::test]
async fn output_and_errors_arrive_apart_with_the_status() {
    let result = run(request(&["sh", "-c", "echo out; echo err >&2; exit 7"])).await;
    assert_eq!(result, ("out\n".into(), "err\n".into(), 7));
}

#[tokio::test]
async fn statuses_follow_the_shell() {
    assert_eq!(run(request(&["no-such-program"])).await.2, 127);
    assert_eq!(run(request(&["/no/such/program"])).await.2, 127);
    assert_eq!(run(request(&["/etc/passwd"])).await.2, 126);
    assert_eq!(run(request(&["/"])).await.2, 126);
    assert_eq!(run(request(&["sh", "-c", "kill -TERM $$"])).await.2, 143);
}

#[tokio::test]
async fn impossible_requests_are_refused_with_the_value() {
    for (wrong, kind, named) in [
        (request(&[]), ErrorKind::Invalid, "empty"),
        (
            ExecRequest {
                cwd: Some("/no/dir".into()),
                ..request(&["true"])
            },
            ErrorKind::NotFound,
            "/no/dir",
        ),
        (request(&["a\0b"]), ErrorKind::Invalid, "a\\0b"),
    ] {
        match exec(wrong).await {
            Err(ClientError::Refused(error)) => {
                assert_eq!(error.kind, kind);
                assert!(error.message.contains(named), "{}", error.message);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_command_starts_like_a_login_of_root() {
    let (out, _, _) = run(request(&[
        "sh",
        "-c",
        "pwd; echo $HOME $USER $LANG ${TERM-none}; umask; ls /proc/self/fd",
    ]))
    .await;
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("/root"));
    assert_eq!(lines.next(), Some("/root root C.UTF-8 none"));
    assert_eq!(lines.next(), Some("0022"));
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["0", "1", "2", "3"],
        "ls itself has one open, nothing else leaks"
    );
}

#[tokio::test]
async fn environment_and_directory_are_the_requests() {
    let mut wanted = request(&["sh", "-c", "echo $PWD $A $HOME"]);
    wanted.environment = [("A".into(), "a b".into()), ("HOME".into(), "/srv".into())].into();
    wanted.cwd = Some("/tmp".into());
    assert_eq!(run(wanted).await.0, "/tmp a b /srv\n");
}

#[tokio::test]
async fn ids_and_supplementary_groups_are_those_of_the_user() {
    let wanted = ExecRequest {
        user: 65534,
        group: 12345,
        ..request(&["sh", "-c", "id -u; id -g; id -G"])
    };
    assert_eq!(run(wanted).await.0, "65534\n12345\n12345\n");
    assert_eq!(
        run(ExecRequest {
            user: 4_000_000,
            group: 7,
            ..request(&["id", "-G"])
        })
        .await
        .0,
        "7\n"
    );
}

#[tokio::test]
async fn every_byte_goes_through_unchanged() {
    let data: Vec<u8> = (0..3_000_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let stream = exec(ExecRequest {
        stdin: true,
        ..request(&["cat"])
    })
    .await
    .unwrap();
    let (mut stdin, _control, events) = stream.split();
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        stdin.write(sent).await.unwrap();
        stdin.close().await.unwrap();
    });
    let (out, err, status) = timeout(PATIENCE, events.collect()).await.unwrap().unwrap();
    writer.await.unwrap();
    assert!(out == data, "{} bytes of {} came back", out.len(), data.len());
    assert_eq!((err.len(), status), (0, 0));
}

#[tokio::test]
async fn all_output_comes_before_the_status() {
    let (out, _, status) = run(request(&["head", "-c", "5000000", "/dev/zero"])).await;
    assert_eq!((out.len(), status), (5_000_000, 0));
}

#[tokio::test]
async fn a_background_process_does_not_hold_the_status_back() {
    let began = Instant::now();
    let (out, _, status) = run(request(&["sh", "-c", "sleep 30 & echo $!; exit 3"])).await;
    assert_eq!(status, 3);
    assert!(began.elapsed() < Duration::from_secs(10));
    let sleeper: i32 = out.trim().parse().unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(sleeper),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
}

#[tokio::test]
async fn dropping_the_input_ends_it() {
    let stream = exec(ExecRequest {
        stdin: true,
        ..request(&["wc", "-c"])
    })
    .await
    .unwrap();
    let (mut stdin, _control, events) = stream.split();
    stdin.write("four").await.unwrap();
    drop(stdin);
    assert_eq!(
        timeout(PATIENCE, events.collect()).await.unwrap().unwrap().0,
        b"4\n"
    );
}

#[tokio::test]
async fn signals_reach_a_command_that_does_not_read() {
    let stream = exec(ExecRequest {
        stdin: true,
        ..request(&["sleep", "60"])
    })
    .await
    .unwrap();
    let (mut stdin, control, events) = stream.split();
    // More than the pipe and the window hold: the write never completes.
    let writer = tokio::spawn(async move { stdin.write(vec![0; 1 << 20]).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    control.signal(15).await.unwrap();
    assert_eq!(
        timeout(PATIENCE, events.collect()).await.unwrap().unwrap().2,
        128 + 15
    );
    assert!(matches!(writer.await.unwrap(), Err(ClientError::Closed)));
}

#[tokio::test]
async fn a_terminal_is_a_terminal_of_the_right_size() {
    let (out, err, status) = run(with_terminal(&[
        "sh",
        "-c",
        "test -t 0 && test -t 2 && stty size && tty && echo $TERM",
    ]))
    .await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines[2], status), ("24 80", "xterm", 0));
    assert!(lines[1].starts_with("/dev/pts/"));
    assert_eq!(err, "");
}

#[tokio::test]
async fn resizing_tells_the_command() {
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
    let (_stdin, control, mut events) = exec(with_terminal(&["sh", "-c", script])).await.unwrap().split();
    assert_eq!(
        events.next().await.unwrap().unwrap(),
        ExecEvent::Stdout("ready\r\n".into())
    );
    control.resize(132, 43).await.unwrap();
    let (out, _, status) = timeout(PATIENCE, events.collect()).await.unwrap().unwrap();
    assert_eq!(
        (String::from_utf8_lossy(&out).as_ref(), status),
        ("43 132\r\n", 0)
    );
}

#[tokio::test]
async fn control_c_interrupts_and_end_of_input_ends() {
    let (mut stdin, _control, events) = exec(with_terminal(&["sleep", "60"])).await.unwrap().split();
    stdin.write("\x03").await.unwrap();
    assert_eq!(timeout(PATIENCE, events.collect()).await.unwrap().unwrap().2, 130);

    let (stdin, _control, events) = exec(with_terminal(&["cat"])).await.unwrap().split();
    stdin.close().await.unwrap();
    assert_eq!(timeout(PATIENCE, events.collect()).await.unwrap().unwrap().2, 0);
}

#[tokio::test]
async fn terminal_output_is_complete_after_a_quick_exit() {
    let (out, _, _) = run(with_terminal(&["sh", "-c", "seq 1 20000"])).await;
    assert_eq!(out.lines().count(), 20_000);
}

#[tokio::test]
async fn the_process_group_dies_with_the_connection() {
    let script = "sleep 61 & echo $!; echo $$; wait";
    let (stream, server) = agent();
    let (_stdin, _control, mut events) = client::exec(stream, request(&["sh", "-c", script]))
        .await
        .unwrap()
        .split();
    let mut seen = String::new();
    while seen.lines().count() < 2 {
        if let ExecEvent::Stdout(data) = events.next().await.unwrap().unwrap() {
            seen.push_str(&String::from_utf8_lossy(&data));
        }
    }
    drop((_stdin, _control, events));
    timeout(PATIENCE, server).await.unwrap().unwrap().unwrap();
    let is_running = |pid: &str| {
        std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
    };
    let deadline = Instant::now() + PATIENCE;
    while seen.lines().any(is_running) {
        assert!(Instant::now() < deadline, "{seen:?} still run");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn more_input_than_granted_ends_the_connection() {
    let (mut stream, server) = agent();
    let wanted = ExecRequest {
        stdin: true,
        ..request(&["sleep", "62"])
    };
    write_frame(&mut stream, &Frame::Request(Request::Exec(wanted)))
        .await
        .unwrap();
    assert!(matches!(
        read_frame(&mut stream).await.unwrap(),
        Some(Frame::Response(Response::Ok(_)))
    ));
    for _ in 0..STDIN_WINDOW / 65_536 + 2 {
        let _ = write_frame(&mut stream, &Frame::Stdin(vec![0; 65_536].into())).await;
    }
    assert!(timeout(PATIENCE, server).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn nonsense_gets_an_answer_and_no_crash() {
    let (mut stream, server) = agent();
    write_frame(&mut stream, &Frame::Control(Control::Signal { signal: 9 }))
        .await
        .unwrap();
    match read_frame(&mut stream).await.unwrap() {
        Some(Frame::Response(Response::Error(error))) => assert_eq!(error.kind, ErrorKind::Invalid),
        other => panic!("{other:?}"),
    }
    assert!(server.await.unwrap().is_err());
}

#[tokio::test]
async fn hello_and_state_describe_this_machine() {
    let hello = client::hello(agent().0).await.unwrap();
    assert_eq!(hello.protocol, guest_agent::protocol::PROTOCOL_VERSION);
    assert_eq!(hello.boot_id.len(), 36);
    let state = client::state(agent().0).await.unwrap();
    assert_eq!(state.network["lo"].state, "up");
    assert_eq!(state.os_info.hostname, hello.hostname);
}
