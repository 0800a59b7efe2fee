//! The daemon is killed between every two steps of a change; the next one leaves nothing half done.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::{TestDaemon, unified_image};
use serde_json::{Value, json};

/// A daemon that dies at `point` during `change`, started again.
fn crash(prepare: impl FnOnce(&TestDaemon), point: &str, change: impl FnOnce(&TestDaemon)) -> TestDaemon {
    let mut daemon = TestDaemon::start();
    prepare(&daemon);
    daemon.terminate();
    daemon.restart(Some(point));
    change(&daemon);
    let status = daemon.wait_end();
    assert!(!status.success(), "{point}: the daemon should have died");
    daemon.restart(None);
    assert!(intents(&daemon).is_empty(), "{point}: {:?}", intents(&daemon));
    daemon
}

fn intents(daemon: &TestDaemon) -> Vec<String> {
    let connection = rusqlite::Connection::open(daemon.path().join("database.sqlite")).unwrap();
    let mut statement = connection
        .prepare("SELECT value FROM documents WHERE key LIKE 'intents/change/%'")
        .unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

fn send(daemon: &TestDaemon, method: &str, path: &str, body: &Value) {
    let _ = daemon.try_request(
        method,
        path,
        &[("Content-Type", "application/json")],
        body.to_string().as_bytes(),
    );
}

fn make_pool(daemon: &TestDaemon) {
    let answer = daemon.send(
        "POST",
        "/1.0/storage-pools",
        &json!({"name": "pool", "driver": "dir"}),
    );
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn make_volume(daemon: &TestDaemon) {
    make_pool(daemon);
    let answer = daemon.send(
        "POST",
        "/1.0/storage-pools/pool/volumes/custom",
        &json!({"name": "v"}),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn volumes_on_disk(daemon: &TestDaemon) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(daemon.path().join("storage-pools/pool/custom"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[test]
fn pools() {
    for point in ["pool-create-intent", "pool-create-made"] {
        let new = json!({"name": "pool", "driver": "dir"});
        let daemon = crash(
            |_| {},
            point,
            |daemon| send(daemon, "POST", "/1.0/storage-pools", &new),
        );
        assert_eq!(daemon.get("/1.0/storage-pools").metadata(), json!([]), "{point}");
        assert!(!daemon.path().join("storage-pools/pool").exists(), "{point}");
        make_pool(&daemon);
    }
    for point in ["pool-delete-intent", "pool-delete-removed"] {
        let delete = |daemon: &TestDaemon| send(daemon, "DELETE", "/1.0/storage-pools/pool", &json!({}));
        let daemon = crash(make_pool, point, delete);
        assert_eq!(daemon.get("/1.0/storage-pools").metadata(), json!([]), "{point}");
        assert!(!daemon.path().join("storage-pools/pool").exists(), "{point}");
    }
}

#[test]
fn volumes() {
    let volumes = "/1.0/storage-pools/pool/volumes/custom";
    for point in ["volume-create-intent", "volume-create-made"] {
        let daemon = crash(make_pool, point, |daemon| {
            send(daemon, "POST", volumes, &json!({"name": "v"}))
        });
        assert_eq!(daemon.get(volumes).metadata(), json!([]), "{point}");
        assert!(volumes_on_disk(&daemon).is_empty(), "{point}");
    }
    for point in ["volume-delete-written", "volume-delete-removed"] {
        let delete = |daemon: &TestDaemon| send(daemon, "DELETE", &format!("{volumes}/v"), &json!({}));
        let daemon = crash(make_volume, point, delete);
        assert_eq!(daemon.get(volumes).metadata(), json!([]), "{point}");
        assert!(volumes_on_disk(&daemon).is_empty(), "{point}");
    }
    for point in ["volume-rename-written", "volume-rename-done"] {
        let rename =
            |daemon: &TestDaemon| send(daemon, "POST", &format!("{volumes}/v"), &json!({"name": "w"}));
        let daemon = crash(make_volume, point, rename);
        assert_eq!(
            daemon.get(volumes).metadata(),
            json!([format!("{volumes}/w")]),
            "{point}"
        );
        assert_eq!(volumes_on_disk(&daemon), ["w"], "{point}");
    }
}

#[test]
fn snapshots() {
    let snapshots = "/1.0/storage-pools/pool/volumes/custom/v/snapshots";
    for point in ["volume-snapshot-intent", "volume-snapshot-made"] {
        let daemon = crash(make_volume, point, |daemon| {
            send(daemon, "POST", snapshots, &json!({"name": "s"}))
        });
        assert_eq!(daemon.get(snapshots).metadata(), json!([]), "{point}");
        daemon.succeed("POST", snapshots, &json!({"name": "s"}));
    }
    let with_snapshot = |daemon: &TestDaemon| {
        make_volume(daemon);
        daemon.succeed("POST", snapshots, &json!({"name": "s"}));
    };
    let daemon = crash(with_snapshot, "volume-snapshot-delete-written", |daemon| {
        send(daemon, "DELETE", &format!("{snapshots}/s"), &json!({}));
    });
    assert_eq!(daemon.get(snapshots).metadata(), json!([]));
    let daemon = crash(with_snapshot, "volume-snapshot-rename-written", |daemon| {
        send(daemon, "POST", &format!("{snapshots}/s"), &json!({"name": "t"}));
    });
    assert_eq!(
        daemon.get(snapshots).metadata(),
        json!([format!("{snapshots}/t")])
    );
    daemon.succeed("DELETE", &format!("{snapshots}/t"), &json!({}));
}

#[test]
fn images() {
    let upload = |daemon: &TestDaemon| {
        let headers = [("Content-Type", "application/octet-stream")];
        daemon.try_request("POST", "/1.0/images", &headers, &unified_image("crash"))
    };
    let files = |daemon: &TestDaemon| {
        std::fs::read_dir(daemon.path().join("images"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_file())
            .count()
    };
    for point in ["image-import-intent", "image-import-placed"] {
        let daemon = crash(|_| {}, point, |daemon| drop(upload(daemon)));
        assert_eq!(daemon.get("/1.0/images").metadata(), json!([]), "{point}");
        assert_eq!(files(&daemon), 0, "{point}");
        let operation = daemon.wait_operation(&upload(&daemon).unwrap());
        assert_eq!(operation["status"], "Success", "{point}: {operation}");
    }
    for point in ["image-delete-written", "image-delete-removed"] {
        let prepare = |daemon: &TestDaemon| {
            let operation = daemon.wait_operation(&upload(daemon).unwrap());
            assert_eq!(operation["status"], "Success", "{operation}");
        };
        let delete = |daemon: &TestDaemon| {
            let url = daemon.get("/1.0/images").metadata()[0]
                .as_str()
                .unwrap()
                .to_owned();
            send(daemon, "DELETE", &url, &json!({}));
        };
        let daemon = crash(prepare, point, delete);
        assert_eq!(daemon.get("/1.0/images").metadata(), json!([]), "{point}");
        assert_eq!(files(&daemon), 0, "{point}");
    }
}

#[test]
fn networks() {
    if !common::in_own_namespaces("networks") {
        return;
    }
    let new = json!({"name": "br1", "config": {"ipv4.address": "10.99.1.1/24", "ipv6.address": "none"}});
    let make = |daemon: &TestDaemon| {
        let answer = daemon.send("POST", "/1.0/networks", &new);
        assert_eq!(answer.status, 201, "{}", answer.text());
    };
    let managed = |daemon: &TestDaemon| daemon.get("/1.0/networks?filter=managed+eq+true").metadata();
    for point in ["network-create-intent", "network-create-made"] {
        let daemon = crash(
            |_| {},
            point,
            |daemon| send(daemon, "POST", "/1.0/networks", &new),
        );
        assert_eq!(managed(&daemon), json!([]), "{point}");
        assert!(!has_link("br1"), "{point}");
    }
    for point in ["network-delete-written", "network-delete-removed"] {
        let daemon = crash(make, point, |daemon| {
            send(daemon, "DELETE", "/1.0/networks/br1", &json!({}))
        });
        assert_eq!(managed(&daemon), json!([]), "{point}");
        assert!(!has_link("br1"), "{point}");
    }
    for point in ["network-rename-written", "network-rename-removed"] {
        let rename = |daemon: &TestDaemon| send(daemon, "POST", "/1.0/networks/br1", &json!({"name": "br2"}));
        let daemon = crash(make, point, rename);
        assert_eq!(managed(&daemon), json!(["/1.0/networks/br2"]), "{point}");
        assert!(!has_link("br1") && has_link("br2"), "{point}");
        assert_eq!(
            daemon.request("DELETE", "/1.0/networks/br2", &[], b"").status,
            200
        );
    }
    let update = json!({"config": {"ipv4.address": "10.99.2.1/24", "ipv6.address": "none"}});
    let daemon = crash(make, "network-update-written", |daemon| {
        send(daemon, "PUT", "/1.0/networks/br1", &update)
    });
    let state = daemon.get("/1.0/networks/br1/state").metadata();
    assert_eq!(state["addresses"][0]["address"], "10.99.2.1");
    assert_eq!(
        daemon.request("DELETE", "/1.0/networks/br1", &[], b"").status,
        200
    );
}

/// Whether this network namespace has a link (`/sys` may still show another namespace's).
fn has_link(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name).is_ok()
}

#[test]
fn a_killed_daemon_has_everything_it_acknowledged() {
    let mut daemon = TestDaemon::start();
    for round in 0..3 {
        for number in 0..10 {
            let name = format!("p{round}-{number}");
            assert_eq!(
                daemon
                    .send("POST", "/1.0/profiles", &json!({"name": name}))
                    .status,
                201
            );
        }
        daemon.kill_and_restart();
        let profiles = daemon.get("/1.0/profiles").metadata();
        assert_eq!(profiles.as_array().unwrap().len(), 1 + 10 * (round + 1));
    }
}
