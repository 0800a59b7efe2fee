//! `docs/openapi/virga-vmm.yaml` held against the program: the same requests, the same fields, and answers that are as it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::collections::BTreeSet;

use common::payload::Payload;
use common::vm::{Spec, has_kvm};
use devices::virtio::{balloon, block, console, mem, net};
use jsonschema::Validator;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vmm::client::ClientError;
use vmm::config;
use vmm::control::requests::ROUTES;

const METHODS: [&str; 5] = ["get", "put", "post", "patch", "delete"];

fn openapi() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/virga-vmm.yaml");
    serde_norway::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The schema at a place in the document, with all components at hand.
fn validator(openapi: &Value, schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = openapi["components"].clone();
    jsonschema::draft202012::new(&schema).unwrap()
}

fn check(openapi: &Value, schema: &Value, what: &str, value: &Value) {
    let problems: Vec<String> = validator(openapi, schema)
        .iter_errors(value)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(problems.is_empty(), "{what}: {problems:?} in {value}");
}

/// All requests of the document: method, path, summary, whether there is a body, and what is said of them.
fn operations(openapi: &Value) -> Vec<(String, String, String, bool, Value)> {
    let mut all = Vec::new();
    for (path, item) in openapi["paths"].as_object().unwrap() {
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                let summary = operation["summary"].as_str().unwrap();
                let takes_body = operation.get("requestBody").is_some();
                let operation = operation.clone();
                all.push((
                    method.to_uppercase(),
                    path.clone(),
                    summary.to_owned(),
                    takes_body,
                    operation,
                ));
            }
        }
    }
    all
}

#[test]
fn every_request_is_described_and_every_description_is_of_a_request() {
    let described: BTreeSet<_> = operations(&openapi())
        .into_iter()
        .map(|(method, path, summary, takes_body, _)| (method, path, summary, takes_body))
        .collect();
    let there: BTreeSet<_> = ROUTES
        .iter()
        .map(|route| {
            let [method, path, summary] = [route.method, route.path, route.summary].map(str::to_owned);
            (method, path, summary, route.takes_body)
        })
        .collect();
    assert_eq!(described, there);
}

/// The fields of a type that refuses unknown ones, by what it says when it does.
fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let error = serde_json::from_value::<T>(json!({"\u{1}": 0}))
        .err()
        .unwrap()
        .to_string();
    let (_, expected) = error.split_once("expected ").unwrap();
    expected
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn documents_have_the_fields_that_are_described() {
    let openapi = openapi();
    let mut seen = BTreeSet::new();
    let mut compare = |name: &'static str, fields: BTreeSet<String>| {
        let schema = &openapi["components"]["schemas"][name];
        assert_eq!(schema["additionalProperties"], json!(false), "{name}");
        let described: BTreeSet<String> = schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(described, fields, "{name}");
        seen.insert(name);
    };
    compare("VmConfig", fields::<config::VmConfig>());
    compare("CpuConfig", fields::<config::CpuConfig>());
    compare("Topology", fields::<config::Topology>());
    compare("PinningConfig", fields::<config::PinningConfig>());
    compare("MemoryConfig", fields::<config::MemoryConfig>());
    compare("NodeConfig", fields::<config::NodeConfig>());
    compare("MemoryHotplugConfig", fields::<config::MemoryHotplugConfig>());
    compare("KernelConfig", fields::<config::KernelConfig>());
    compare("SerialConfig", fields::<config::SerialConfig>());
    compare("DiskConfig", fields::<config::DiskConfig>());
    compare("BackingConfig", fields::<config::BackingConfig>());
    compare("Limits", fields::<config::Limits>());
    compare("NetConfig", fields::<config::NetConfig>());
    compare("NetLimits", fields::<net::NetLimits>());
    compare("VsockConfig", fields::<config::VsockConfig>());
    compare("ConsolePortConfig", fields::<config::ConsolePortConfig>());
    compare("FileSystemConfig", fields::<config::FileSystemConfig>());
    compare("PmemConfig", fields::<config::PmemConfig>());
    compare("BalloonConfig", fields::<config::BalloonConfig>());
    compare("SmbiosConfig", fields::<config::SmbiosConfig>());
    compare("WatchdogConfig", fields::<config::WatchdogConfig>());
    compare("GdbConfig", fields::<config::GdbConfig>());
    compare("LogConfig", fields::<config::LogConfig>());
    compare("SandboxConfig", fields::<config::SandboxConfig>());
    compare("Rlimits", fields::<config::Rlimits>());
    compare("BlockUpdate", fields::<block::Update>());
    compare("NetUpdate", fields::<net::Update>());
    compare("BalloonUpdate", fields::<balloon::Update>());
    compare("MemoryUpdate", fields::<mem::Update>());
    compare("ConsoleUpdate", fields::<console::Update>());
    // A new section of the configuration is found by VmConfig above; here, that it is described as strictly.
    for (name, schema) in openapi["components"]["schemas"].as_object().unwrap() {
        let is_config = name.ends_with("Config") || name.ends_with("Update");
        assert!(!is_config || seen.contains(name.as_str()), "{name}: {schema}");
    }
}

#[test]
fn a_vm_takes_what_is_described_and_answers_as_described() {
    if !has_kvm() {
        return;
    }
    let openapi = openapi();
    let spec = Spec::new(&Payload::new().print("up").forever());
    let disk = spec.file("disk", &[0; 1 << 20]);
    let mut vm = spec
        .set("memory_bytes", (128 << 20).into())
        .set("rng", true.into())
        .set(
            "disks",
            json!([{"id": "root", "path": disk, "limits": {"operations_per_second": 10}}]),
        )
        .set("balloon", json!({}))
        .set("smbios", json!({"serial": "1"}))
        .set("watchdog", json!({"action": "none"}))
        .set("generation_id", "0e0c1e3c-3b1c-4a55-9f5c-1f2a3b4c5d6e".into())
        .start();
    vm.wait_for("up");
    let client = vm.client();
    let mut answered = 0;
    for (method, path, _, takes_body, operation) in operations(&openapi) {
        let what = format!("{method} {path}");
        let answers = |status: &str| &operation["responses"][status]["content"]["application/json"]["schema"];
        // Those that need something of the host are told by tests of their own, and the end comes last.
        if ["/stop", "/devices/{id}", "/sleep-button"].contains(&path.as_str()) || method == "POST" {
            continue;
        }
        let examples = &operation["requestBody"]["content"]["application/json"]["examples"];
        let documents: Vec<Value> = match examples.as_object() {
            Some(examples) => examples
                .values()
                .map(|example| example["value"].clone())
                .collect(),
            None => vec![Value::Null],
        };
        for document in documents {
            let body = takes_body.then_some(&document);
            if let Some(body) = body {
                let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
                check(&openapi, schema, &what, body);
            }
            match client.call(&method, &path, body, &[]) {
                Ok(answer) => {
                    let schema = match answers("200") {
                        Value::Null => {
                            &openapi["components"]["responses"]["Done"]["content"]["application/json"]["schema"]
                        }
                        schema => schema,
                    };
                    check(&openapi, schema, &what, &answer);
                    answered += 1;
                }
                // The VM runs already.
                Err(ClientError::Refused { status: 409, .. }) => {}
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
    assert!(answered >= 10, "{answered}");
    let updates = &operations(&openapi)
        .into_iter()
        .find(|(method, ..)| method == "PATCH")
        .unwrap()
        .4;
    let updates = &updates["requestBody"]["content"]["application/json"];
    for (name, id) in [("limits", "root"), ("balloon", "balloon")] {
        let document = &updates["examples"][name]["value"];
        check(&openapi, &updates["schema"], name, document);
        client.update_device(id, document).unwrap();
    }
    let gone = client
        .call("DELETE", "/devices/root?force=true", None, &[])
        .unwrap();
    check(
        &openapi,
        &json!({"$ref": "#/components/schemas/Removal"}),
        "DELETE",
        &gone,
    );
    client.stop().unwrap();
    vm.end();
}
