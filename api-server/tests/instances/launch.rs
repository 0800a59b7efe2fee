use serde_json::{Value, json};

use crate::test_host::TestHost;

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_launched_used_stopped_and_gone() {
    let host = TestHost::start().await;
    host.launch("web").await;
    assert_eq!(host.status("web").await, "Running");
    assert_eq!(host.run("web", &["hostname"]).await, (0, "web\n".into()));
    assert_eq!(host.run("web", &["sh", "-c", "exit 7"]).await.0, 7);

    let instance = host.api.get("/1.0/instances/web").await;
    assert_eq!(instance["profiles"], json!(["default"]));
    assert_eq!(instance["config"]["image.os"], "Busybox");
    assert_eq!(instance["config"]["volatile.last_state.power"], "RUNNING");
    let hwaddr = instance["config"]["volatile.eth0.hwaddr"].as_str().unwrap();
    assert!(hwaddr.starts_with("10:66:6a:"));

    let state = host.api.get("/1.0/instances/web/state").await;
    assert_eq!(state["status_code"], 103);
    assert!(state["processes"].as_i64().unwrap() >= 1 && state["pid"].as_i64().unwrap() > 1);
    assert!(state["memory"]["usage"].as_i64().unwrap() > 0);
    let eth0 = &state["network"]["eth0"];
    assert_eq!((&eth0["hwaddr"], &eth0["state"]), (&json!(hwaddr), &json!("up")));
    assert_eq!(host.instance_links(), [eth0["host_name"].as_str().unwrap()]);
    let families: Vec<&str> = eth0["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|address| address["family"].as_str().unwrap())
        .collect();
    assert!(families.contains(&"inet"), "{eth0}");

    assert_eq!(
        host.api.fail("DELETE", "/1.0/instances/web", Value::Null).await,
        "Instance is running"
    );
    host.set_state("web", "stop", false).await;
    assert_eq!(host.status("web").await, "Stopped");
    assert!(host.instance_links().is_empty() && host.names_in("run").is_empty());
    host.api
        .succeed("DELETE", "/1.0/instances/web", Value::Null)
        .await;
    assert_eq!(
        host.api
            .request("GET", "/1.0/instances/web", Value::Null)
            .await
            .status,
        404
    );
    assert!(host.names_in("storage-pools/default/containers").is_empty() && host.names_in("logs").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_stay_and_names_resolve() {
    let host = TestHost::start().await;
    host.launch("one").await;
    let address = async || {
        let state = host.api.get("/1.0/instances/one/state").await;
        let all = state["network"]["eth0"]["addresses"].as_array().unwrap().clone();
        all.iter().find(|a| a["family"] == "inet").unwrap()["address"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let before = address().await;
    host.set_state("one", "restart", true).await;
    assert_eq!(address().await, before);
    let gateway = host.run("one", &["ip", "route"]).await.1;
    assert!(gateway.contains("default via"), "{gateway}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_go_as_deep_as_they_are_asked() {
    let host = TestHost::start().await;
    host.launch("a").await;
    host.api
        .succeed("POST", "/1.0/instances", TestHost::container("b", false))
        .await;
    assert_eq!(
        host.api.get("/1.0/instances").await,
        json!(["/1.0/instances/a", "/1.0/instances/b"])
    );
    let list = host.api.get("/1.0/instances?recursion=1").await;
    assert_eq!(
        (&list[0]["status"], &list[1]["status"]),
        (&json!("Running"), &json!("Stopped"))
    );
    let full = host.api.get("/1.0/instances?recursion=2").await;
    assert!(full[0]["state"]["network"]["eth0"].is_object(), "{full}");
    assert_eq!(full[1]["state"]["network"], Value::Null);
    let running = host
        .api
        .get("/1.0/instances?recursion=1&filter=status+eq+running")
        .await;
    assert_eq!(running.as_array().unwrap().len(), 1);
    assert_eq!(running[0]["name"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_container_goes_when_it_stops_however_it_stops() {
    let host = TestHost::start().await;
    for (name, inside) in [("told", false), ("itself", true)] {
        let mut wanted = TestHost::container(name, true);
        wanted["ephemeral"] = json!(true);
        host.api.succeed("POST", "/1.0/instances", wanted).await;
        if inside {
            host.run_last(name, &["poweroff"]).await;
        } else {
            host.set_state(name, "stop", true).await;
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while host
            .api
            .request("GET", &format!("/1.0/instances/{name}"), Value::Null)
            .await
            .status
            != 404
        {
            assert!(
                std::time::Instant::now() < deadline,
                "{name} stays: {}",
                host.log()
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(host.names_in("storage-pools/default/containers").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_reboots_runs_again() {
    let host = TestHost::start().await;
    host.launch("again").await;
    let pid = host.api.get("/1.0/instances/again/state").await["pid"].clone();
    host.run_last("again", &["reboot"]).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let state = host.api.get("/1.0/instances/again/state").await;
        if state["status"] == "Running" && state["pid"] != pid {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "it does not come back: {}",
            host.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(host.run("again", &["echo", "hi"]).await, (0, "hi\n".into()));
    assert_eq!(host.instance_links().len(), 1);
}
