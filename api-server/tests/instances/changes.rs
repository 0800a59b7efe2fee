use serde_json::{Value, json};

use crate::test_host::TestHost;

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_changed_by_those_who_know_its_state() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    let answer = host.api.request("GET", "/1.0/instances/c1", Value::Null).await;
    let etag = answer.headers["etag"].to_str().unwrap().to_owned();
    let mut wanted = answer.json()["metadata"].clone();
    wanted["config"]["user.note"] = json!("mine");
    wanted["config"]["limits.memory"] = json!("64MiB");
    wanted["config"]["volatile.uuid"] = json!("forged");
    let put = async |etag: &str, wanted: &Value| {
        let body = wanted.to_string().into_bytes();
        host.api
            .try_request("PUT", "/1.0/instances/c1", &[("if-match", etag)], body)
            .await
            .unwrap()
    };
    let answer = put(&etag, &wanted).await;
    assert_eq!(answer.status, 202, "{}", answer.json());
    host.api
        .get(&format!("{}/wait", answer.json()["operation"].as_str().unwrap()))
        .await;
    let now = host.api.get("/1.0/instances/c1").await;
    assert_eq!(now["config"]["user.note"], "mine");
    assert_ne!(now["config"]["volatile.uuid"], "forged");
    assert_eq!(put(&etag, &wanted).await.status, 412, "somebody else was faster");
    // The limit holds without a restart.
    let state = host.api.get("/1.0/instances/c1/state").await;
    assert_eq!(state["memory"]["total"], 64 << 20);

    let answer = host
        .api
        .request(
            "PATCH",
            "/1.0/instances/c1",
            json!({ "config": { "user.note": "" } }),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    assert_eq!(
        host.api.get("/1.0/instances/c1").await["config"].get("user.note"),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_bring_back_what_was() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    host.run("c1", &["sh", "-c", "echo before >/root/file"]).await;
    let url = "/1.0/instances/c1/snapshots";
    host.api.succeed("POST", url, json!({ "name": "s0" })).await;
    assert!(
        host.api
            .fail("POST", url, json!({ "name": "s0" }))
            .await
            .contains("already exists")
    );
    host.api.succeed("POST", url, json!({})).await;
    assert_eq!(
        host.api.get(url).await,
        json!([
            "/1.0/instances/c1/snapshots/s0",
            "/1.0/instances/c1/snapshots/snap0"
        ])
    );
    host.run("c1", &["sh", "-c", "echo after >/root/file; touch /root/new"])
        .await;
    host.api
        .succeed("PUT", "/1.0/instances/c1", json!({ "restore": "c1/s0" }))
        .await;
    assert_eq!(host.status("c1").await, "Running");
    assert_eq!(host.run("c1", &["cat", "/root/file"]).await.1, "before\n");
    assert_eq!(host.run("c1", &["test", "-e", "/root/new"]).await.0, 1);

    host.api
        .succeed("POST", &format!("{url}/snap0"), json!({ "name": "renamed" }))
        .await;
    host.api
        .succeed("DELETE", &format!("{url}/renamed"), Value::Null)
        .await;
    assert_eq!(
        host.api
            .fail("DELETE", &format!("{url}/renamed"), Value::Null)
            .await,
        "Failed to fetch snapshot \"renamed\" of instance \"c1\" in project \"default\": Instance_snapshot not found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_renamed_instances_are_instances_of_their_own() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    host.run("c1", &["sh", "-c", "echo shared >/root/file"]).await;
    host.api
        .succeed("POST", "/1.0/instances/c1/snapshots", json!({ "name": "s0" }))
        .await;
    let copy =
        |name: &str, source: &str| json!({ "name": name, "source": { "type": "copy", "source": source } });
    host.api.succeed("POST", "/1.0/instances", copy("c2", "c1")).await;
    host.api
        .succeed("POST", "/1.0/instances", copy("c3", "c1/s0"))
        .await;
    let hwaddr = async |name: &str| {
        host.api.get(&format!("/1.0/instances/{name}")).await["config"]["volatile.eth0.hwaddr"].clone()
    };
    assert_ne!(hwaddr("c1").await, hwaddr("c2").await);
    assert_eq!(
        host.api
            .get("/1.0/instances/c2/snapshots")
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    host.api
        .succeed("POST", "/1.0/instances/c2", json!({ "name": "c4" }))
        .await;
    for name in ["c3", "c4"] {
        host.set_state(name, "start", false).await;
        assert_eq!(
            host.run(name, &["sh", "-c", "hostname; cat /root/file"]).await.1,
            format!("{name}\nshared\n")
        );
    }
    assert_eq!(host.instance_links().len(), 3);
    // The image's template for it is filled in at creation and after renaming, not after copying.
    assert_eq!(host.run("c4", &["cat", "/etc/hostname"]).await.1, "c4\n");
    assert_eq!(host.run("c3", &["cat", "/etc/hostname"]).await.1, "c1\n");
    assert!(
        host.api
            .fail("POST", "/1.0/instances/c4", json!({ "name": "c5" }))
            .await
            .contains("running")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_of_the_host_appear_in_a_container() {
    let host = TestHost::start().await;
    let shared = host.state_dir().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::write(shared.join("file"), "from the host").unwrap();
    let mut wanted = TestHost::container("c1", true);
    wanted["devices"] = json!({
        "data": { "type": "disk", "source": shared, "path": "/mnt/data", "readonly": "true" },
        "none": { "type": "disk", "source": "/no/such/folder", "path": "/mnt/none", "required": "false" },
    });
    host.api.succeed("POST", "/1.0/instances", wanted).await;
    assert_eq!(
        host.run("c1", &["cat", "/mnt/data/file"]).await,
        (0, "from the host".into())
    );
    assert_ne!(
        host.run("c1", &["touch", "/mnt/data/new"]).await.0,
        0,
        "it is read-only"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_container_becomes_an_image_and_is_rebuilt_from_one() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    host.run("c1", &["sh", "-c", "echo kept >/root/file"]).await;
    host.set_state("c1", "stop", true).await;
    let published = host
        .api
        .succeed(
            "POST",
            "/1.0/images",
            json!({ "source": { "type": "instance", "name": "c1" } }),
        )
        .await;
    let mut wanted = TestHost::container("c2", true);
    wanted["source"] = json!({ "type": "image", "fingerprint": published["fingerprint"] });
    host.api.succeed("POST", "/1.0/instances", wanted).await;
    assert_eq!(host.run("c2", &["cat", "/root/file"]).await.1, "kept\n");
    host.api
        .succeed(
            "POST",
            "/1.0/instances/c1/rebuild",
            json!({ "source": { "type": "image", "alias": "bb" } }),
        )
        .await;
    host.set_state("c1", "start", false).await;
    assert_ne!(host.run("c1", &["cat", "/root/file"]).await.0, 0);
}
