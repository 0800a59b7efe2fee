use serde_json::{Value, json};

use crate::test_host::TestHost;

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_answered_in_words_that_help() {
    let host = TestHost::start().await;
    let create = "/1.0/instances";
    let with = |name: &str, key: &str, value: Value| {
        let mut wanted = TestHost::container(name, false);
        wanted[key] = value;
        wanted
    };
    let image = |source: Value| with("c1", "source", source);
    for (wanted, words) in [
        (
            TestHost::container("a_b", false),
            "Invalid instance name: Name can only contain alphanumeric and hyphen characters",
        ),
        (
            with("c1", "config", json!({ "no.such": "1" })),
            "Invalid config: Unknown configuration key: no.such",
        ),
        (
            with("c1", "config", json!({ "raw.lxc": "x" })),
            "\"raw.lxc\" is not supported",
        ),
        (with("c1", "config", json!({ "limits.memory": "lots" })), "lots"),
        (
            with("c1", "profiles", json!(["nobody"])),
            "Failed loading profile \"nobody\": Profile not found",
        ),
        (with("c1", "profiles", json!([])), "No root device could be found"),
        (with("c1", "devices", json!({ "g": { "type": "gpu" } })), "gpu"),
        (
            with(
                "c1",
                "devices",
                json!({ "e": { "type": "nic", "network": "nope" } }),
            ),
            "Network not found",
        ),
        (
            with(
                "c1",
                "devices",
                json!({ "root": { "type": "disk", "path": "/", "pool": "no" } }),
            ),
            "Storage pool not found",
        ),
        (with("c1", "type", json!("toaster")), "toaster"),
        (with("c1", "architecture", json!("riscv64")), "riscv64"),
        (
            image(json!({ "type": "image", "alias": "nope" })),
            "Image alias not found",
        ),
        (
            image(json!({ "type": "image", "fingerprint": "00ff00ff" })),
            "Image not found",
        ),
        (
            image(json!({ "type": "image", "alias": "x", "server": "https://elsewhere" })),
            "not supported",
        ),
        (
            image(json!({ "type": "copy", "source": "nobody" })),
            "Instance not found",
        ),
        (image(json!({ "type": "magic" })), "magic"),
    ] {
        let error = host.api.fail("POST", create, wanted.clone()).await;
        assert!(error.contains(words), "{wanted}: {error:?}");
    }
    assert_eq!(
        host.api.get(create).await,
        json!([]),
        "nothing of all that exists"
    );
    assert!(host.names_in("storage-pools/default/containers").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_one_thing_at_a_time() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    let again = host
        .api
        .fail("POST", "/1.0/instances", TestHost::container("c1", false))
        .await;
    assert_eq!(
        again,
        "Failed creating instance record: Instance \"c1\" already exists"
    );
    let state = "/1.0/instances/c1/state";
    let put = |action: &str| json!({ "action": action });
    assert_eq!(
        host.api.fail("PUT", state, put("start")).await,
        "The instance is already running"
    );
    assert_eq!(
        host.api.fail("PUT", state, put("dance")).await,
        "Unknown action: \"dance\""
    );
    let stateful = json!({ "action": "stop", "stateful": true });
    assert!(
        host.api
            .fail("PUT", state, stateful)
            .await
            .contains("not supported")
    );
    host.set_state("c1", "stop", true).await;
    assert_eq!(
        host.api.fail("PUT", state, put("stop")).await,
        "The instance is already stopped"
    );
    assert_eq!(
        host.api.fail("PUT", state, put("freeze")).await,
        "The instance isn't running"
    );
    let exec = host
        .api
        .fail("POST", "/1.0/instances/c1/exec", json!({ "command": ["true"] }))
        .await;
    assert_eq!(exec, "Instance is not running");
    for path in [
        "/1.0/instances/nobody",
        "/1.0/instances/nobody/state",
        "/1.0/instances/nobody/snapshots",
    ] {
        let answer = host.api.request("GET", path, Value::Null).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"].as_str()),
            (404, Some("Instance not found"))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operation_is_told_about_the_first() {
    let host = TestHost::start().await;
    host.launch("c1").await;
    // busybox' init gives its processes two seconds to end, so a clean stop takes longer than this client waits.
    let wanted = json!({ "action": "stop", "timeout": 1 });
    let (stop, busy) = tokio::join!(host.api.fail("PUT", "/1.0/instances/c1/state", wanted), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        host.api
            .fail("PUT", "/1.0/instances/c1/state", json!({ "action": "freeze" }))
            .await
    });
    assert_eq!(busy, "Instance is busy running a \"stop\" operation");
    assert_eq!(
        stop,
        "Failed shutting down instance, status is \"Running\": context deadline exceeded"
    );
    // It still ends, and nobody waits for it any more.
    host.wait_for_status("c1", "Stopped").await;
}
