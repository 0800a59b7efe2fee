//! A client that sends any document: whatever is accepted must be writable, and read the same again; its
//! configuration and devices must be checked without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use virgad::config_keys::{check_devices, check_instance_config, check_pool_config, parse_duration};
use virgad::request::parse_json;

fn twice<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<T> {
    let first: T = parse_json(bytes).ok()?;
    let text = serde_json::to_vec(&first).expect("our own types can be written");
    let second: T = parse_json(&text).expect("what was written can be read");
    assert_eq!(first, second);
    Some(first)
}

fuzz_target!(|bytes: &[u8]| {
    twice::<api::StorageVolumesPost>(bytes);
    twice::<api::ImagesPost>(bytes);
    twice::<api::InstanceExecPost>(bytes);
    twice::<api::NetworksPost>(bytes);
    if let Some(pool) = twice::<api::StoragePoolsPost>(bytes) {
        let _ = check_pool_config(&pool.put.config);
    }
    if let Some(instance) = twice::<api::InstancesPost>(bytes) {
        let _ = check_instance_config(&instance.put.config, Some(api::InstanceType::Container));
        let _ = check_devices(&instance.put.devices);
        for value in instance.put.config.values() {
            let _ = parse_duration(value);
        }
    }
});
