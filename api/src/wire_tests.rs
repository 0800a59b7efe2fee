use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::*;

fn same<T: DeserializeOwned + Serialize>(text: &str) {
    let parsed: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(serde_json::to_string(&parsed).unwrap(), text);
}

#[test]
fn recorded_objects_survive_byte_for_byte() {
    same::<Profile>(
        r#"{"config":{},"description":"Default Incus profile","devices":{"root":{"path":"/","pool":"default","type":"disk"}},"name":"default","used_by":[],"project":"default"}"#,
    );
    same::<Network>(
        r#"{"config":{},"description":"","name":"lo","type":"loopback","used_by":[],"managed":false,"status":"","locations":null,"project":"default"}"#,
    );
    same::<StorageVolume>(
        r#"{"config":{},"description":"","name":"v1","type":"custom","used_by":[],"location":"none","content_type":"filesystem","project":"default","created_at":"2026-11-23T17:29:58.811739307Z"}"#,
    );
    same::<Image>(
        r#"{"auto_update":false,"properties":{"os":"Busybox"},"public":false,"expires_at":"0001-01-01T00:00:00Z","profiles":["default"],"aliases":[{"name":"bb","description":""}],"architecture":"x86_64","cached":false,"filename":"busybox.tar.gz","fingerprint":"57ce","size":1037525,"type":"container","created_at":"2023-11-14T22:13:20Z","last_used_at":"0001-01-01T00:00:00Z","uploaded_at":"2026-11-23T17:29:13.241650988Z","project":"default"}"#,
    );
    same::<Operation>(
        r#"{"id":"88245f5d","class":"task","description":"Creating instance","created_at":"2026-11-23T17:29:15.270833867Z","updated_at":"2026-11-23T17:29:15.270833867Z","status":"Running","status_code":103,"resources":{"cluster":null,"instances":["/1.0/instances/c1"]},"metadata":null,"may_cancel":false,"err":"","location":"none"}"#,
    );
    same::<Event>(
        r#"{"type":"lifecycle","timestamp":"2026-11-23T17:29:44.306955857Z","metadata":{"action":"instance-backup-created","source":"/1.0/instances/c"},"location":"none","project":"default"}"#,
    );
    same::<ProjectStateResource>(r#"{"Limit":-1,"Usage":0}"#);
}

#[test]
fn recorded_requests_are_understood() {
    let post: InstancesPost = serde_json::from_value(json!({
        "architecture": "", "config": {}, "devices": {}, "ephemeral": false, "profiles": null, "stateful": false,
        "description": "", "name": "c1", "instance_type": "", "type": "container", "start": true,
        "source": {"type": "image", "certificate": "", "fingerprint": "57ce", "allow_inconsistent": false}
    }))
    .unwrap();
    assert_eq!(
        (post.name.as_str(), post.put.profiles, post.start),
        ("c1", None, true)
    );
    assert_eq!(post.source.fingerprint, "57ce");
    let exec: InstanceExecPost = serde_json::from_value(
        json!({"command": ["sh"], "wait-for-websocket": true, "record-output": false}),
    )
    .unwrap();
    assert!(exec.wait_for_websocket);
    let put: StorageVolumePut = serde_json::from_value(json!({"config": null, "restore": "s1"})).unwrap();
    assert_eq!((put.config, put.restore.as_str()), (None, "s1"));
}

#[test]
fn status_codes_have_one_word_and_one_number() {
    assert_eq!(serde_json::to_value(StatusCode::Frozen).unwrap(), json!(110));
    assert_eq!(StatusCode::from_code(400), Some(StatusCode::Failure));
    assert!(StatusCode::Cancelled.is_final() && !StatusCode::Ready.is_final());
    assert!(serde_json::from_value::<StatusCode>(json!(999)).is_err());
}

proptest! {
    #[test]
    fn null_and_absent_are_the_same_in_requests(names in proptest::sample::subsequence(
        vec!["config", "devices", "description", "name", "architecture", "ephemeral", "stateful", "restore", "type"], 0..9,
    )) {
        let nulls: serde_json::Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
        let with: InstancesPost = serde_json::from_value(Value::Object(nulls)).unwrap();
        prop_assert_eq!(with, InstancesPost::default());
    }
}
