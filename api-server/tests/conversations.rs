//! Conversations of the `incus` client with Incus, repeated: the same requests must get the same answers, byte for
//! byte, except for ids, times and the state directory's path.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use common::TestDaemon;
use regex::Regex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Exchange {
    method: String,
    path: String,
    #[serde(default)]
    body: Option<Value>,
    status: u16,
    #[serde(default)]
    location: Option<String>,
    response: Box<RawValue>,
}

/// Texts that differ between two runs, replaced by what they stand for.
fn normal(text: &str, state: &str) -> String {
    let id = Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    let time = Regex::new(r#""20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z""#).unwrap();
    let text = text.replace(state, "STATE").replace("/var/lib/incus", "STATE");
    let text = id.replace_all(&text, "ID");
    time.replace_all(text.trim_end(), "\"TIME\"").into_owned()
}

fn repeat(daemon: &TestDaemon, conversation: &str) {
    let state = daemon.path().display().to_string();
    for line in conversation.lines() {
        let exchange: Exchange = serde_json::from_str(line).unwrap();
        let what = format!("{} {} {:?}", exchange.method, exchange.path, exchange.body);
        let answer = match &exchange.body {
            Some(body) => {
                let body = body.to_string().replace("/var/lib/incus", &state);
                let headers = [("Content-Type", "application/json")];
                daemon.request(&exchange.method, &exchange.path, &headers, body.as_bytes())
            }
            None => daemon.request(&exchange.method, &exchange.path, &[], b""),
        };
        assert_eq!(
            normal(&answer.text(), &state),
            normal(exchange.response.get(), &state),
            "{what}"
        );
        assert_eq!(answer.status, exchange.status, "{what}");
        let location = answer.header("location").map(|location| normal(location, &state));
        assert_eq!(
            location,
            exchange.location.map(|location| normal(&location, &state)),
            "{what}"
        );
        if answer.status == 202 {
            let operation = daemon.wait_operation(&answer);
            assert_eq!(operation["status"], "Success", "{what}: {operation}");
        }
    }
}

#[test]
fn profiles() {
    repeat(&TestDaemon::start(), include_str!("conversations/profiles.jsonl"));
}

#[test]
fn projects() {
    repeat(&TestDaemon::start(), include_str!("conversations/projects.jsonl"));
}

#[test]
fn storage_pools() {
    repeat(
        &TestDaemon::start(),
        include_str!("conversations/storage_pools.jsonl"),
    );
}

#[test]
fn volumes() {
    let daemon = TestDaemon::start();
    let pool = daemon.send(
        "POST",
        "/1.0/storage-pools",
        &json!({"name": "default", "driver": "dir"}),
    );
    assert_eq!(pool.status, 201, "{}", pool.text());
    repeat(&daemon, include_str!("conversations/volumes.jsonl"));
}

#[test]
fn networks() {
    if common::in_own_namespaces("networks") {
        let daemon = TestDaemon::start();
        repeat(&daemon, include_str!("conversations/networks.jsonl"));
        assert_eq!(
            daemon.request("DELETE", "/1.0/networks/br78", &[], b"").status,
            200
        );
    }
}
