//! The daemon is killed at each named step of launching, stopping and deleting. Whatever the next one finds, store, disk, links,
//! processes and control groups agree, and the instance can be used and removed.

use serde_json::{Value, json};
use virgad::instances::Step;

use crate::test_host::{TestHost, was_killed};

fn steps(families: &[&str]) -> Vec<Step> {
    let is_wanted = |step: &&Step| families.iter().any(|family| step.name().starts_with(family));
    Step::ALL.iter().filter(is_wanted).copied().collect()
}

#[test]
fn every_step_is_visited_by_one_of_these_tests() {
    let visited = steps(&["create-", "start-"]).len() + steps(&["stop-"]).len() + steps(&["delete-"]).len();
    assert_eq!(visited, Step::ALL.len());
}

/// Lets a daemon die at a step of what a request does.
async fn die_at(host: &mut TestHost, step: Step, method: &str, path: &str, body: Value) {
    host.kill_daemon();
    host.run_daemon(&[("VIRGA_CRASH_AT", step.name())]).await;
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    // The answer may get lost with the daemon.
    let _ = host.api.try_request(method, path, &[], body).await;
    let status = host.daemon_death().await;
    assert!(
        was_killed(status),
        "{}: the daemon ended with {status}",
        step.name()
    );
    host.run_daemon(&[]).await;
}

/// Store, disk, links, processes and control groups tell the same.
async fn assert_agreement(host: &TestHost, name: &str, step: Step) {
    let at = step.name();
    let list = host.api.get("/1.0/instances?recursion=1").await;
    let list = list.as_array().unwrap();
    let running = list
        .iter()
        .filter(|instance| instance["status"] == "Running")
        .count();
    assert!(
        list.iter()
            .all(|instance| ["Running", "Stopped"].contains(&instance["status"].as_str().unwrap()))
    );
    let names: Vec<String> = list
        .iter()
        .map(|instance| instance["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        host.names_in("storage-pools/default/containers"),
        names,
        "{at}: volumes"
    );
    assert_eq!(
        host.names_in("run").len(),
        running,
        "{at}: run directories {:?}",
        host.names_in("run")
    );
    assert_eq!(host.supervisors().len(), running, "{at}: supervisors");
    assert_eq!(
        host.instance_links().len(),
        running,
        "{at}: links {:?}",
        host.instance_links()
    );
    if running == 0 {
        assert!(
            host.cgroups(name).is_empty(),
            "{at}: control groups {:?}",
            host.cgroups(name)
        );
    }
    for log in host.names_in("logs") {
        assert!(names.contains(&log), "{at}: logs of {log} stay");
    }
    for instance in list {
        let is_running = instance["status"] == "Running";
        let has_host_end = instance["config"].get("volatile.eth0.host_name").is_some();
        assert_eq!(is_running, has_host_end, "{at}: {}", instance["config"]);
        assert_eq!(
            instance["config"]["volatile.last_state.power"] == "RUNNING",
            is_running,
            "{at}"
        );
    }
    // Nothing is left in the store that says that something is unfinished.
    let volumes = host.api.get("/1.0/storage-pools/default/volumes").await;
    let of_instances = volumes
        .as_array()
        .unwrap()
        .iter()
        .filter(|url| url.as_str().unwrap().contains("/container/"));
    assert_eq!(of_instances.count(), names.len(), "{at}: {volumes}");
}

/// What is left can be used like any other instance, and removed without a trace.
async fn use_and_remove(host: &TestHost, name: &str, step: Step) {
    let answer = host
        .api
        .request("GET", &format!("/1.0/instances/{name}"), Value::Null)
        .await;
    if answer.status == 404 {
        return;
    }
    if answer.json()["metadata"]["status"] == "Stopped" {
        host.set_state(name, "start", false).await;
    }
    assert_eq!(
        host.run(name, &["echo", "fine"]).await,
        (0, "fine\n".into()),
        "{}",
        step.name()
    );
    host.set_state(name, "stop", true).await;
    host.api
        .succeed("DELETE", &format!("/1.0/instances/{name}"), Value::Null)
        .await;
    assert_agreement(host, name, step).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_interrupted_is_undone_or_complete() {
    let mut host = TestHost::start().await;
    for step in steps(&["create-", "start-"]) {
        let name = format!("launch-{}", std::process::id());
        die_at(
            &mut host,
            step,
            "POST",
            "/1.0/instances",
            TestHost::container(&name, true),
        )
        .await;
        assert_agreement(&host, &name, step).await;
        use_and_remove(&host, &name, step).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_interrupted_ends_in_running_or_stopped() {
    let mut host = TestHost::start().await;
    for step in steps(&["stop-"]) {
        let name = format!("stop-{}", std::process::id());
        host.launch(&name).await;
        let wanted = json!({ "action": "stop", "force": true, "timeout": -1 });
        die_at(
            &mut host,
            step,
            "PUT",
            &format!("/1.0/instances/{name}/state"),
            wanted,
        )
        .await;
        assert_agreement(&host, &name, step).await;
        use_and_remove(&host, &name, step).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_interrupted_is_complete_or_has_not_begun() {
    let mut host = TestHost::start().await;
    for step in steps(&["delete-"]) {
        let name = format!("delete-{}", std::process::id());
        host.launch(&name).await;
        host.api
            .succeed(
                "POST",
                &format!("/1.0/instances/{name}/snapshots"),
                json!({ "name": "s0" }),
            )
            .await;
        host.set_state(&name, "stop", true).await;
        die_at(
            &mut host,
            step,
            "DELETE",
            &format!("/1.0/instances/{name}"),
            Value::Null,
        )
        .await;
        assert_agreement(&host, &name, step).await;
        assert_eq!(
            host.names_in("storage-pools/default/containers-snapshots")
                .is_empty(),
            host.names_in("storage-pools/default/containers").is_empty(),
            "{}",
            step.name()
        );
        use_and_remove(&host, &name, step).await;
    }
}
