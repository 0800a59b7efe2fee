use super::*;

/// A supervisor that does what the shell script says, with `$RUN` as its run directory.
fn script(run_dir: &Path, text: &str) -> Launch {
    Launch {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), format!("RUN='{}'; {text}", run_dir.display())],
        run_dir: run_dir.to_path_buf(),
        log: run_dir.join("log"),
        descriptors: Vec::new(),
        is_alone: false,
    }
}

const SERVE: &str = r#"set -- $(sed 's/.*) //' /proc/$$/stat); shift 19;
    echo "{\"pid\":$$,\"start_time\":$1}" >$RUN/pid.tmp; mv $RUN/pid.tmp $RUN/pid.json; exec sleep 60"#;

#[test]
fn a_supervisor_is_found_again_and_a_recycled_pid_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let started = launch(script(dir.path(), SERVE)).unwrap();
    let found = find(dir.path()).expect("it lives");
    assert_eq!(found.pid, started.pid);
    // It has its own session, so that it outlives us.
    // SAFETY: getsid has no preconditions.
    assert_eq!(unsafe { libc::getsid(started.pid) }, started.pid);

    let text = format!("{{\"pid\":{},\"start_time\":1}}", started.pid);
    std::fs::write(dir.path().join(PID_FILE), text).unwrap();
    assert!(find(dir.path()).is_none());
    assert!(kill(&started, Duration::from_secs(10)));
    assert!(start_time(started.pid).is_none());
}

#[test]
fn a_supervisor_that_fails_is_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let error = launch(script(dir.path(), "echo no such kernel >&2; exit 1")).unwrap_err();
    assert!(error.message.contains("no such kernel"), "{error}");

    let told = r#"echo '{"reason":"error","status":null,"message":"no memory"}' >$RUN/exit.json; exit 1"#;
    let error = launch(script(dir.path(), told)).unwrap_err();
    assert_eq!(error.message, "no memory");
}

#[test]
fn descriptors_are_inherited_under_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("inherited")).unwrap();
    let fd = OwnedFd::from(file);
    let number = fd.as_raw_fd();
    let mut launching = script(dir.path(), &format!("echo hello >&{number}; {SERVE}"));
    launching.descriptors.push(fd);
    let started = launch(launching).unwrap();
    assert_eq!(
        std::fs::read_to_string(dir.path().join("inherited")).unwrap(),
        "hello\n"
    );
    assert!(kill(&started, Duration::from_secs(10)));
}

#[tokio::test]
async fn the_end_of_a_supervisor_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let text = SERVE.replace("sleep 60", "sleep 0.1");
    let started = tokio::task::spawn_blocking(move || launch(script(&path, &text)))
        .await
        .unwrap()
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), ended(&started.pidfd))
        .await
        .unwrap()
        .unwrap();
    assert!(find(dir.path()).is_none());
}
