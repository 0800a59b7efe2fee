//! The API as a client sees it, told by the real daemon on a socket of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{TestDaemon, split_image, unified_image};
use serde_json::json;

#[test]
fn the_server_tells_truthfully_who_and_where_it_is() {
    let daemon = TestDaemon::start();
    assert_eq!(daemon.get("/").metadata(), json!(["/1.0"]));
    let answer = daemon.get("/1.0");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.header("etag").is_some());
    let server = answer.metadata();
    assert_eq!(server["auth"], "trusted");
    assert_eq!(server["auth_user_name"], "root");
    assert_eq!(server["environment"]["server_pid"], daemon.pid());
    assert_eq!(server["environment"]["project"], "default");
    assert!(
        server["api_extensions"]
            .as_array()
            .unwrap()
            .contains(&json!("instances"))
    );
    assert_eq!(daemon.get("/internal/ready").status, 200);
    let resources = daemon.get("/1.0/resources").metadata();
    assert!(resources["cpu"]["total"].as_u64().unwrap() >= 1);
    assert!(resources["memory"]["total"].as_u64().unwrap() > 1 << 20);
}

#[test]
fn what_is_not_there_is_refused_in_incus_words() {
    let daemon = TestDaemon::start();
    for (method, path, status, message) in [
        ("GET", "/1.0/nothing", 404, "not found"),
        ("DELETE", "/1.0/profiles", 404, "Method \"DELETE\" not found"),
        ("GET", "/1.0/profiles/none", 404, "Profile not found"),
        ("GET", "/1.0/networks/none", 404, "Network not found"),
        ("GET", "/1.0/storage-pools/none", 404, "Storage pool not found"),
        (
            "GET",
            "/1.0/storage-pools/none/volumes/custom/v",
            404,
            "Storage pool not found",
        ),
        ("GET", "/1.0/images/abcd", 404, "Image not found"),
        ("GET", "/1.0/images/aliases/none", 404, "Image alias not found"),
        ("GET", "/1.0/projects/none", 404, "Project not found"),
        ("GET", "/1.0/profiles?project=none", 404, "Project not found"),
        ("GET", "/1.0/operations/none", 404, "Operation not found"),
        ("GET", "/1.0/warnings/none", 404, "Warning not found"),
        ("GET", "/1.0/certificates/none", 404, "Certificate not found"),
        ("GET", "/1.0/instances/none", 404, "Instance not found"),
        (
            "GET",
            "/1.0/profiles?filter=x",
            400,
            "Invalid filter: clause has no operator",
        ),
        (
            "DELETE",
            "/1.0/profiles/default",
            403,
            "The \"default\" profile cannot be deleted",
        ),
        (
            "DELETE",
            "/1.0/projects/default",
            403,
            "The 'default' project cannot be deleted",
        ),
    ] {
        let answer = daemon.request(method, path, &[], b"");
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (status, message),
            "{method} {path}"
        );
        assert_eq!(answer.json()["error_code"], status, "{method} {path}");
        assert_eq!(answer.json()["type"], "error");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    for (path, body, message) in [
        (
            "/1.0/profiles",
            json!({"name": "p", "config": {"no.such": "1"}}),
            "Unknown configuration key: no.such",
        ),
        ("/1.0/profiles", json!({"name": ""}), "No name provided"),
        (
            "/1.0/profiles",
            json!({"name": "a/b"}),
            "Profile names may not contain slashes",
        ),
        ("/1.0/profiles", json!("text"), "Invalid JSON"),
        (
            "/1.0/projects",
            json!({"name": "a_b"}),
            "Project names may not contain underscores",
        ),
        (
            "/1.0/projects",
            json!({"name": "p", "config": {"x": "1"}}),
            "Unknown configuration key: x",
        ),
        (
            "/1.0/storage-pools",
            json!({"name": "p", "driver": "zfs"}),
            "unknown storage driver \"zfs\"",
        ),
        (
            "/1.0/networks",
            json!({"name": "net1", "type": "ovn"}),
            "Network type \"ovn\" is not supported",
        ),
        (
            "/1.0/certificates",
            json!({"type": "client", "certificate": "AAAA"}),
            "Invalid certificate material",
        ),
    ] {
        let answer = daemon.send("POST", path, &body);
        assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text());
        assert!(
            answer.error().contains(message),
            "{path} {body}: {}",
            answer.error()
        );
    }
    // Unknown fields are nobody's business, as in Incus.
    assert_eq!(
        daemon
            .send("POST", "/1.0/profiles", &json!({"name": "p", "unknown": 1}))
            .status,
        201
    );
    let answer = daemon.send("POST", "/1.0/profiles", &json!({"name": "p"}));
    assert_eq!(answer.status, 409);
    assert!(answer.error().contains("already exists"));
}

#[test]
fn a_change_of_what_has_changed_meanwhile_is_refused() {
    let daemon = TestDaemon::start();
    daemon.send("POST", "/1.0/profiles", &json!({"name": "p"}));
    let etag = daemon.get("/1.0/profiles/p").header("etag").unwrap().to_owned();
    let put = |etag: &str, description: &str| {
        let body = json!({"description": description}).to_string();
        daemon
            .request("PUT", "/1.0/profiles/p", &[("If-Match", etag)], body.as_bytes())
            .status
    };
    assert_eq!(put(&etag, "first"), 200);
    assert_eq!(put(&etag, "second"), 412);
    assert_eq!(daemon.get("/1.0/profiles/p").metadata()["description"], "first");
    let etag = daemon.get("/1.0/profiles/p").header("etag").unwrap().to_owned();
    daemon.request("DELETE", "/1.0/profiles/p", &[], b"");
    daemon.send("POST", "/1.0/profiles", &json!({"name": "p"}));
    assert_eq!(put(&etag, "third"), 412, "the new profile is another one");
    assert_eq!(
        daemon
            .send("PATCH", "/1.0/profiles/p", &json!({"config": {"user.a": "1"}}))
            .status,
        200
    );
    assert_eq!(
        daemon
            .send("PATCH", "/1.0/profiles/p", &json!({"config": {"user.b": "2"}}))
            .status,
        200
    );
    assert_eq!(
        daemon.get("/1.0/profiles/p").metadata()["config"],
        json!({"user.a": "1", "user.b": "2"})
    );
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let daemon = TestDaemon::start();
    let made = |path: &str, body: serde_json::Value| {
        let answer = daemon.send("POST", path, &body);
        assert_eq!(answer.status / 100, 2, "{path}: {}", answer.text());
    };
    let config = json!({"user.a": "1", "user.b": "2"});
    made(
        "/1.0/projects",
        json!({"name": "p", "config": config, "description": "old"}),
    );
    made(
        "/1.0/profiles",
        json!({"name": "p", "config": config, "description": "old"}),
    );
    made(
        "/1.0/storage-pools",
        json!({"name": "p", "driver": "dir", "config": config, "description": "old"}),
    );
    let volumes = "/1.0/storage-pools/p/volumes/custom";
    made(
        volumes,
        json!({"name": "v", "type": "custom", "config": config, "description": "old"}),
    );
    daemon.succeed("POST", &format!("{volumes}/v/snapshots"), &json!({"name": "s"}));
    for path in [
        "/1.0/projects/p",
        "/1.0/profiles/p",
        "/1.0/storage-pools/p",
        &format!("{volumes}/v"),
    ] {
        let patch = |body: serde_json::Value| {
            let answer = daemon.send("PATCH", path, &body);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            daemon.get(path).metadata()
        };
        let now = patch(json!({"config": {"user.b": "3", "user.c": "4"}}));
        assert_eq!(now["description"], "old", "{path}");
        let values = ["user.a", "user.b", "user.c"].map(|key| now["config"][key].clone());
        assert_eq!(values, ["1", "3", "4"], "{path}");
        let now = patch(json!({"description": "new", "config": null}));
        assert_eq!(
            (&now["description"], &now["config"]["user.a"]),
            (&json!("new"), &json!("1")),
            "{path}"
        );
        // An empty value takes a key away, as it does everywhere.
        assert_eq!(
            patch(json!({"config": {"user.a": ""}}))["config"]["user.a"],
            json!(null),
            "{path}"
        );
        let answer = daemon.send("PUT", path, &json!({"config": "x"}));
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    let snapshot = format!("{volumes}/v/snapshots/s");
    let until = json!({"expires_at": "2099-01-01T00:00:00Z"});
    for body in [&until, &json!({"description": "kept"})] {
        assert_eq!(daemon.send("PATCH", &snapshot, body).status, 200);
    }
    let now = daemon.get(&snapshot).metadata();
    assert_eq!(
        (&now["description"], &now["expires_at"]),
        (&json!("kept"), &until["expires_at"])
    );
}

#[test]
fn lists_go_as_deep_as_asked_and_pass_what_the_filter_says() {
    let daemon = TestDaemon::start();
    for (name, tier) in [("a", "gold"), ("b", "silver"), ("c", "gold")] {
        daemon.send(
            "POST",
            "/1.0/profiles",
            &json!({"name": name, "config": {"user.tier": tier}}),
        );
    }
    let urls = |query: &str| daemon.get(&format!("/1.0/profiles?{query}")).metadata();
    let all = ["a", "b", "c", "default"].map(|name| format!("/1.0/profiles/{name}"));
    assert_eq!(urls("recursion=0"), json!(all));
    assert_eq!(
        urls("filter=config.user.tier+eq+gold"),
        json!(["/1.0/profiles/a", "/1.0/profiles/c"])
    );
    assert_eq!(
        urls("filter=name%20eq%20b%20or%20name%20eq%20c"),
        json!(["/1.0/profiles/b", "/1.0/profiles/c"])
    );
    let objects = urls("recursion=1&filter=name+eq+b");
    assert_eq!(objects[0]["config"]["user.tier"], "silver");
    assert_eq!(objects.as_array().unwrap().len(), 1);
    assert_eq!(urls("recursion=1&filter=name+eq+nobody"), json!([]));
}

#[test]
fn an_image_goes_in_and_out_unchanged() {
    let daemon = TestDaemon::start();
    let file = unified_image("whole");
    let headers = [
        ("Content-Type", "application/octet-stream"),
        ("X-Incus-filename", "whole.tar"),
        ("X-Incus-properties", "a=b%20c"),
    ];
    let answer = daemon.request("POST", "/1.0/images", &headers, &file);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let operation = daemon.wait_operation(&answer);
    assert_eq!(operation["status"], "Success", "{operation}");
    let fingerprint = operation["metadata"]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(operation["metadata"]["size"], file.len().to_string());

    let alias = json!({"name": "debian/12", "target": fingerprint});
    let answer = daemon.send("POST", "/1.0/images/aliases", &alias);
    assert_eq!(
        (answer.status, answer.header("location")),
        (201, Some("/1.0/images/aliases/debian%2F12"))
    );
    assert_eq!(
        daemon.get("/1.0/images/aliases/debian%2F12").metadata()["type"],
        "container"
    );
    let image = daemon
        .get(&format!("/1.0/images/{}", &fingerprint[..12]))
        .metadata();
    assert_eq!(
        image["properties"],
        json!({"a": "b c", "name": "whole", "os": "Test"})
    );
    assert_eq!(
        image["aliases"],
        json!([{"name": "debian/12", "description": ""}])
    );
    assert_eq!(image["created_at"], "2023-11-14T22:13:20Z");

    let export = daemon.get(&format!("/1.0/images/{fingerprint}/export"));
    assert_eq!(export.body, file);
    assert_eq!(
        export.header("content-disposition").unwrap(),
        format!("inline;filename={fingerprint}.tar")
    );

    let again = daemon.request("POST", "/1.0/images", &headers, &file);
    let operation = daemon.wait_operation(&again);
    assert_eq!(operation["err"], "Image with same fingerprint already exists");

    daemon.succeed("DELETE", &format!("/1.0/images/{fingerprint}"), &json!({}));
    assert_eq!(daemon.get("/1.0/images").metadata(), json!([]));
    assert_eq!(daemon.get("/1.0/images/aliases").metadata(), json!([]));
    assert!(files_in(&daemon, "images").is_empty());
    assert!(files_in(&daemon, "images/.uploads").is_empty());
}

#[test]
fn an_image_in_two_parts_comes_back_in_two_parts() {
    let daemon = TestDaemon::start();
    let (meta, rootfs) = split_image("parts");
    let mut body = Vec::new();
    for (name, content) in [("metadata", &meta), ("rootfs", &rootfs)] {
        body.extend_from_slice(b"--cut\r\nContent-Disposition: form-data; name=\"");
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b"\"; filename=\"f\"\r\nContent-Type: application/octet-stream\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--cut--\r\n");
    let headers = [("Content-Type", "multipart/form-data; boundary=cut")];
    let answer = daemon.request("POST", "/1.0/images", &headers, &body);
    assert_eq!(answer.status, 202, "{}", answer.text());
    let operation = daemon.wait_operation(&answer);
    assert_eq!(operation["status"], "Success", "{operation}");
    let fingerprint = operation["metadata"]["fingerprint"].as_str().unwrap();
    let export = daemon.get(&format!("/1.0/images/{fingerprint}/export"));
    assert!(
        export
            .header("content-type")
            .unwrap()
            .starts_with("multipart/form-data; boundary=")
    );
    let contains = |part: &[u8]| export.body.windows(part.len()).any(|window| window == part);
    assert!(contains(&meta) && contains(&rootfs) && contains(b"name=\"rootfs\""));
}

#[test]
fn what_is_no_image_leaves_nothing_behind() {
    let daemon = TestDaemon::start();
    let headers = [("Content-Type", "application/octet-stream")];
    let operation = daemon.wait_operation(&daemon.request("POST", "/1.0/images", &headers, b"no image"));
    assert_eq!(operation["status"], "Failure");
    assert_ne!(operation["err"], "");
    let wrong = [
        ("Content-Type", "application/octet-stream"),
        ("X-Incus-fingerprint", "0000"),
    ];
    let operation =
        daemon.wait_operation(&daemon.request("POST", "/1.0/images", &wrong, &unified_image("x")));
    assert!(
        operation["err"]
            .as_str()
            .unwrap()
            .starts_with("Fingerprints don't match"),
        "{operation}"
    );
    assert!(files_in(&daemon, "images").is_empty());
    assert!(files_in(&daemon, "images/.uploads").is_empty());
}

fn files_in(daemon: &TestDaemon, directory: &str) -> Vec<String> {
    std::fs::read_dir(daemon.path().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn profiles_know_their_users_and_take_them_along_in_a_rename() {
    let daemon = TestDaemon::start();
    daemon.send(
        "POST",
        "/1.0/storage-pools",
        &json!({"name": "pool", "driver": "dir"}),
    );
    let root = json!({"root": {"type": "disk", "path": "/", "pool": "pool"}});
    assert_eq!(
        daemon
            .send("POST", "/1.0/profiles", &json!({"name": "disk", "devices": root}))
            .status,
        201
    );
    let instance = json!({"name": "c1", "profiles": ["disk"], "source": {"type": "none"}});
    daemon.succeed("POST", "/1.0/instances", &instance);
    assert_eq!(
        daemon.get("/1.0/profiles/disk").metadata()["used_by"],
        json!(["/1.0/instances/c1"])
    );
    let used = json!(["/1.0/instances/c1", "/1.0/profiles/disk"]);
    assert_eq!(daemon.get("/1.0/storage-pools/pool").metadata()["used_by"], used);
    let answer = daemon.request("DELETE", "/1.0/profiles/disk", &[], b"");
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "Profile is currently in use")
    );
    let answer = daemon.request("DELETE", "/1.0/storage-pools/pool", &[], b"");
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "The storage pool is currently in use")
    );
    assert_eq!(
        daemon
            .send("POST", "/1.0/profiles/disk", &json!({"name": "renamed"}))
            .status,
        201
    );
    assert_eq!(
        daemon.get("/1.0/instances/c1").metadata()["profiles"],
        json!(["renamed"])
    );
    let volumes = daemon
        .get("/1.0/storage-pools/pool/volumes?recursion=1")
        .metadata();
    assert_eq!(
        (&volumes[0]["name"], &volumes[0]["type"]),
        (&json!("c1"), &json!("container"))
    );
    daemon.succeed("DELETE", "/1.0/instances/c1", &json!({}));
    assert_eq!(
        daemon.request("DELETE", "/1.0/profiles/renamed", &[], b"").status,
        200
    );
    assert_eq!(
        daemon
            .request("DELETE", "/1.0/storage-pools/pool", &[], b"")
            .status,
        200
    );
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let daemon = TestDaemon::start();
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_virgad"))
        .arg("--state-dir")
        .arg(daemon.path())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        message.contains(&format!("another virgad (process {})", daemon.pid())),
        "{message}"
    );
    assert_eq!(daemon.get("/1.0").status, 200, "the first one is not disturbed");
}

#[test]
fn the_socket_is_for_root_only_and_goes_with_the_daemon() {
    let mut daemon = TestDaemon::start();
    assert_eq!(
        std::fs::metadata(daemon.socket()).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(daemon.terminate().success());
    assert!(!daemon.socket().exists());
    daemon.restart(None);
    assert_eq!(daemon.request("PUT", "/internal/shutdown", &[], b"").status, 200);
    assert!(daemon.wait_end().success());
}

#[test]
fn a_state_directory_may_have_a_very_long_name() {
    let outer = tempfile::tempdir().unwrap();
    let inner = tempfile::Builder::new()
        .prefix(&"long".repeat(40))
        .tempdir_in(outer.path())
        .unwrap();
    let socket = inner.path().join("unix.socket");
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_virgad"))
        .arg("--state-dir")
        .arg(inner.path())
        .args(["--bootstrap", "none"])
        .spawn()
        .unwrap();
    let since = std::time::Instant::now();
    while guest_agent::socket::connect(&socket).is_err() && since.elapsed().as_secs() < 60 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let connected = guest_agent::socket::connect(&socket).is_ok();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(connected);
}

#[test]
fn the_first_start_makes_a_pool_a_network_and_a_profile() {
    if !common::in_own_namespaces("the_first_start_makes_a_pool_a_network_and_a_profile") {
        return;
    }
    let daemon = TestDaemon::start_with_bootstrap();
    let profile = daemon.get("/1.0/profiles/default").metadata();
    let devices = json!({
        "eth0": {"name": "eth0", "network": "virgabr0", "type": "nic"},
        "root": {"path": "/", "pool": "default", "type": "disk"},
    });
    assert_eq!(profile["devices"], devices);
    assert_eq!(
        daemon.get("/1.0/networks/virgabr0").metadata()["used_by"],
        json!(["/1.0/profiles/default"])
    );
    assert_eq!(
        daemon.get("/1.0/networks/virgabr0/state").metadata()["state"],
        "up"
    );
    assert_eq!(
        daemon.get("/1.0/network-allocations").metadata()[0]["used_by"],
        "/1.0/networks/virgabr0"
    );
    let answer = daemon.request("DELETE", "/1.0/networks/virgabr0", &[], b"");
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "The network is currently in use")
    );
}
