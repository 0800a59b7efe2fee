use std::time::Duration;

use api::StatusCode;
use serde_json::json;

use super::Operations;
use crate::ApiError;
use crate::events::EventHub;
use crate::operations::OperationSpec;

fn operations() -> Operations {
    Operations::new(EventHub::new())
}

#[tokio::test]
async fn an_operation_succeeds_with_what_its_work_returns() {
    let operations = operations();
    let spec = OperationSpec::task("Testing").resource("instances", "/1.0/instances/c1");
    let operation = operations.spawn(spec, |context| async move {
        context.merge_metadata(json!({"step": 1}));
        Ok(Some(json!({"return": 0})))
    });
    assert_eq!(
        operation.status(),
        StatusCode::Running,
        "readable as running at once"
    );
    operation.wait().await;
    let shown = operation.render();
    assert_eq!(shown.status_code, StatusCode::Success);
    assert_eq!(shown.metadata, Some(json!({"step": 1, "return": 0})));
    assert_eq!(
        shown.resources["instances"],
        Some(vec!["/1.0/instances/c1".to_owned()])
    );
    assert!(operations.get(&operation.id().to_string()).is_ok());
}

#[tokio::test]
async fn failure_and_panic_are_the_operations_own() {
    let operations = operations();
    let failing = operations.spawn(OperationSpec::task("Failing"), |_| async {
        Err(ApiError::not_found("Image"))
    });
    failing.wait().await;
    assert_eq!(
        (failing.status(), failing.render().err.as_str()),
        (StatusCode::Failure, "Image not found")
    );
    let panicking = operations.spawn(OperationSpec::task("Panicking"), |_| async { panic!("a bug") });
    panicking.wait().await;
    assert_eq!(panicking.status(), StatusCode::Failure);
    assert!(panicking.render().err.starts_with("operation ended early"));
}

#[tokio::test]
async fn only_what_may_be_cancelled_is() {
    let operations = operations();
    let stubborn = operations.spawn(OperationSpec::task("Stubborn"), |_| async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(None)
    });
    assert!(stubborn.cancel().is_err());
    let willing = operations.spawn(
        OperationSpec::task("Willing").cancellable(),
        |context| async move {
            context.cancelled().cancelled().await;
            Err(ApiError::bad_request("Stopped"))
        },
    );
    willing.cancel().unwrap();
    willing.wait().await;
    assert_eq!(willing.status(), StatusCode::Cancelled);
    assert!(willing.cancel().is_err(), "it is over");
    let token = operations.token(OperationSpec::token("Token"));
    token.cancel().unwrap();
    assert_eq!(token.status(), StatusCode::Cancelled);
    stubborn.wait().await;
    assert_eq!(stubborn.status(), StatusCode::Success);
}

#[tokio::test]
async fn an_operation_is_known_for_a_while_after_its_end() {
    let mut operations = operations();
    assert_eq!(
        operations.keep,
        Duration::from_secs(5),
        "as long as Incus keeps it"
    );
    operations.keep = Duration::from_millis(200);
    let operation = operations.spawn(OperationSpec::task("Short").project("p"), |_| async { Ok(None) });
    operation.wait().await;
    assert_eq!(operations.list(Some("p")).len(), 1);
    assert!(operations.list(Some("default")).is_empty());
    while !operations.list(None).is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(operations.get(&operation.id().to_string()).is_err());
}

#[tokio::test]
async fn websockets_have_secrets_and_each_is_brought_once() {
    let operations = operations();
    let spec = OperationSpec::websocket("Executing", &["0", "control"]).metadata(json!({"command": ["sh"]}));
    let operation = operations.spawn(spec, |context| async move {
        context.websocket("0").await.map(|_| None)
    });
    let metadata = operation.render().metadata.unwrap();
    assert_eq!(metadata["command"], json!(["sh"]));
    let secret = metadata["fds"]["0"].as_str().unwrap();
    assert_eq!(secret.len(), 64);
    assert_eq!(
        operation.socket_place("wrong").unwrap_err().status,
        http::StatusCode::FORBIDDEN
    );
    let place = operation.socket_place(secret).unwrap();
    assert!(operation.socket_place(secret).is_err(), "taken");
    drop(place);
    operation.wait().await;
    assert_eq!(operation.render().err, "The client did not connect");
    assert!(
        operation
            .socket_place(metadata["fds"]["control"].as_str().unwrap())
            .is_err(),
        "it is over"
    );
}

#[tokio::test]
async fn progress_is_kept_but_not_told_too_often() {
    let hub = EventHub::new();
    let operations = Operations::new(hub);
    let operation = operations.spawn(OperationSpec::task("Unpacking"), |context| async move {
        for percent in 0..100 {
            context.progress_percent("unpack", "Unpacking image", percent, 12_340_000);
        }
        Ok(None)
    });
    operation.wait().await;
    let metadata = operation.render().metadata.unwrap();
    assert_eq!(metadata["unpack_progress"], "Unpacking image: 99% (12.34MB/s)");
    assert_eq!(metadata["progress"]["percent"], "99");
}

#[tokio::test]
async fn the_end_of_the_daemon_stops_what_can_be_stopped() {
    let operations = operations();
    let willing = operations.spawn(
        OperationSpec::task("Willing").cancellable(),
        |context| async move {
            context.cancelled().cancelled().await;
            Err(ApiError::bad_request("Stopped"))
        },
    );
    let endless = operations.spawn(OperationSpec::task("Endless"), |_| std::future::pending());
    operations.shutdown(Duration::from_millis(50)).await;
    assert_eq!(willing.status(), StatusCode::Cancelled);
    assert_eq!(endless.status(), StatusCode::Running);
}
