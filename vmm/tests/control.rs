//! The control socket as a client sees it: documents, refusals, descriptors.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::os::fd::AsFd;

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use serde_json::{Value, json};
use vmm::client::{Client, ClientError};

/// Status and words of a refusal.
fn refused(client: &Client, method: &str, path: &str, document: Option<Value>) -> (u16, String) {
    match client.call(method, path, document.as_ref(), &[]) {
        Err(ClientError::Refused { status, message, .. }) => (status, message),
        other => panic!("{method} {path}: {other:?}"),
    }
}

#[test]
fn requests_that_cannot_be_are_refused_with_what_can() {
    if !has_kvm() {
        return;
    }
    let mut vm = Spec::new(&Payload::new().forever())
        .set("rng", true.into())
        .start();
    let client = vm.client();
    let list = client.call("GET", "/", None, &[]).unwrap();
    assert!(
        list.as_array()
            .unwrap()
            .iter()
            .any(|route| route["path"] == "/devices/{id}"),
        "{list}"
    );
    let (status, message) = refused(&client, "GET", "/status", None);
    assert!(status == 404 && message.contains("GET /state"), "{message}");
    let (status, message) = refused(&client, "GET", "/pause", None);
    assert!(status == 405 && message.contains("use PUT"), "{message}");
    let (status, message) = refused(&client, "PUT", "/pause", Some(json!({"for": 3})));
    assert!(
        status == 400 && message.contains("takes no document"),
        "{message}"
    );
    let (status, message) = refused(&client, "PATCH", "/devices/root", Some(json!({})));
    assert!(status == 404 && message.contains("root"), "{message}");
    let (status, message) = refused(&client, "PATCH", "/devices/rng", Some(json!({"more": true})));
    assert!(
        status == 409 && message.contains("nothing that can be changed"),
        "{message}"
    );
    let (status, message) = refused(&client, "PATCH", "/devices/rng", None);
    assert!(status == 400 && message.contains("not valid"), "{message}");
    let null = std::fs::File::open("/dev/null").unwrap();
    let error = client.call("PUT", "/pause", None, &[null.as_fd()]).unwrap_err();
    assert!(error.to_string().contains("takes no descriptors"), "{error}");
    let error = client
        .call("GET", "/state", None, &[null.as_fd(); 20])
        .unwrap_err();
    assert!(error.to_string().contains("too many descriptors"), "{error}");
    client.pause().unwrap();
}
