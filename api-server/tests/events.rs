//! Events and operations over websockets, as `incus monitor` and every waiting client use them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::time::Duration;

use common::{TestDaemon, unified_image};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

async fn listen(daemon: &TestDaemon, query: &str) -> WebSocketStream<UnixStream> {
    let stream = UnixStream::connect(daemon.socket()).await.unwrap();
    let url = format!("ws://unix/1.0/events?{query}");
    let (mut socket, response) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    assert_eq!(response.status(), 101);
    // The first thing is a ping; whoever has it misses nothing after it.
    let first = tokio::time::timeout(Duration::from_secs(30), socket.next())
        .await
        .unwrap();
    assert!(matches!(first, Some(Ok(Message::Ping(payload))) if payload.as_ref() == b"keepalive"));
    socket
}

async fn next(socket: &mut WebSocketStream<UnixStream>) -> Value {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(30), socket.next())
            .await
            .unwrap();
        match message.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_sees_what_happens_in_its_project() {
    let daemon = TestDaemon::start();
    let mut socket = listen(&daemon, "type=lifecycle").await;
    daemon.send("POST", "/1.0/projects", &json!({"name": "other"}));
    daemon.send("POST", "/1.0/profiles?project=other", &json!({"name": "unseen"}));
    daemon.send("POST", "/1.0/profiles", &json!({"name": "seen"}));
    let event = next(&mut socket).await;
    assert_eq!(event["type"], "lifecycle");
    assert_eq!(event["project"], "default");
    assert_eq!(event["location"], "none");
    let requestor = json!({"username": "root", "protocol": "unix", "address": "@"});
    let metadata =
        json!({"action": "profile-created", "source": "/1.0/profiles/seen", "requestor": requestor});
    assert_eq!(event["metadata"], metadata);
    let mut all = listen(&daemon, "type=lifecycle&all-projects=true").await;
    daemon.send("POST", "/1.0/profiles?project=other", &json!({"name": "seen"}));
    let event = next(&mut all).await;
    assert_eq!(event["metadata"]["source"], "/1.0/profiles/seen?project=other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_pending_then_running_then_over() {
    let daemon = TestDaemon::start();
    let mut socket = listen(&daemon, "type=operation").await;
    let headers = [("Content-Type", "application/octet-stream")];
    let answer = daemon.request("POST", "/1.0/images", &headers, &unified_image("events"));
    let operation = answer.json();
    assert_eq!(operation["metadata"]["status"], "Running");
    assert_eq!(operation["metadata"]["resources"], json!({}));
    let url = operation["operation"].as_str().unwrap();
    for (status, code) in [("Pending", 105), ("Running", 103), ("Success", 200)] {
        let event = next(&mut socket).await;
        assert_eq!(event["metadata"]["id"], operation["metadata"]["id"]);
        assert_eq!(
            (&event["metadata"]["status"], &event["metadata"]["status_code"]),
            (&json!(status), &json!(code))
        );
    }
    // It can still be asked for, and is listed with its status.
    assert_eq!(daemon.get(url).metadata()["status"], "Success");
    assert_eq!(
        daemon.get("/1.0/operations").metadata(),
        json!({"success": [url]})
    );
    let answer = daemon.request("DELETE", url, &[], b"");
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "Only running operations can be cancelled")
    );
    assert_eq!(
        daemon.get(&format!("{url}/websocket?secret=x")).text(),
        "Bad Request\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_lines_are_events_too() {
    let daemon = TestDaemon::start();
    let mut socket = listen(&daemon, "type=logging").await;
    daemon.get("/1.0/profiles");
    loop {
        let event = next(&mut socket).await;
        assert_eq!(event["type"], "logging");
        assert!(event.get("project").is_none());
        if event["metadata"]["message"] == "Handling API request" {
            assert_eq!(event["metadata"]["level"], "debug");
            assert_eq!(event["metadata"]["context"]["url"], "/1.0/profiles");
            assert_eq!(event["metadata"]["context"]["username"], "root");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_websocket_or_no_type_is_refused() {
    let mut daemon = TestDaemon::start();
    let answer = daemon.get("/1.0/events");
    assert_eq!((answer.status, answer.text().as_str()), (400, "Bad Request\n"));
    let stream = UnixStream::connect(daemon.socket()).await.unwrap();
    let refused = tokio_tungstenite::client_async("ws://unix/1.0/events?type=nonsense", stream).await;
    assert!(refused.is_err());
    let mut socket = listen(&daemon, "").await;
    // A listener does not keep the daemon from ending, and is told.
    let told = tokio::spawn(async move {
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Close(Some(frame)) = message {
                return Some(frame.reason.as_str().to_owned());
            }
        }
        None
    });
    assert!(daemon.terminate().success());
    assert_eq!(told.await.unwrap().as_deref(), Some("shutting down"));
}
