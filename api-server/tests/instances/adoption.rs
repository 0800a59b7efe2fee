use serde_json::Value;

use crate::test_host::TestHost;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_is_followed_by_one_that_carries_on() {
    let mut host = TestHost::start().await;
    host.launch("c1").await;
    host.set_state("c1", "freeze", false).await;
    host.set_state("c1", "unfreeze", false).await;
    host.launch("cold").await;
    host.set_state("cold", "freeze", false).await;
    let before = host.api.get("/1.0/instances/c1/state").await;
    host.kill_daemon();
    host.run_daemon(&[]).await;
    let after = host.api.get("/1.0/instances/c1/state").await;
    assert_eq!(after["pid"], before["pid"], "the same process runs on");
    assert_eq!(
        after["network"]["eth0"]["addresses"],
        before["network"]["eth0"]["addresses"]
    );
    assert_eq!(
        host.run("c1", &["echo", "still here"]).await,
        (0, "still here\n".into())
    );
    assert_eq!(host.status("cold").await, "Frozen");

    // The new daemon watches what it adopted: it notices an end that it was not told of.
    host.run_last("c1", &["poweroff"]).await;
    host.wait_for_status("c1", "Stopped").await;
    host.set_state("c1", "start", false).await;
    host.set_state("cold", "stop", true).await;
    host.set_state("c1", "stop", true).await;
    assert!(host.supervisors().is_empty() && host.instance_links().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_no_daemon_was_there_is_found_out() {
    let mut host = TestHost::start().await;
    // Control groups are shared by the whole machine, so names of their own.
    let names = ["died", "left"].map(|name| format!("{name}-{}", std::process::id()));
    for name in &names {
        host.launch(name).await;
    }
    let pid = |name: &str| {
        let text = std::fs::read(host.state_dir().join("run").join(name).join("pid.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["pid"]
            .as_i64()
            .unwrap() as i32
    };
    let (died, left) = (
        pid(&names[0]),
        host.api.get(&format!("/1.0/instances/{}/state", names[1])).await["pid"]
            .as_i64()
            .unwrap() as i32,
    );
    host.kill_daemon();
    let kill =
        |pid: i32| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    kill(died).unwrap();
    kill(left).unwrap();
    while !host.supervisors().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    host.run_daemon(&[]).await;
    for name in names.iter() {
        assert_eq!(host.status(name).await, "Stopped");
        assert!(host.cgroups(name).is_empty(), "{:?}", host.cgroups(name));
    }
    assert!(host.instance_links().is_empty() && host.names_in("run").is_empty());
    host.set_state(&names[0], "start", false).await;
    assert_eq!(host.run(&names[0], &["echo", "back"]).await, (0, "back\n".into()));
}
