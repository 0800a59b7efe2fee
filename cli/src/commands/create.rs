//! `launch`, `create` and `copy`: new instances.

use http::Method;
use serde_json::{Map, Value, json};

use super::{Context, key_values};
use crate::args;
use crate::client::escape;
use crate::error::{Error, Result};

/// Makes an instance of an image and, for `launch`, starts it.
pub(super) async fn run(context: &Context, args: args::Create, start: bool) -> Result<()> {
    let fingerprint = resolve_image(context, &args.image).await?;
    let name = args.name.clone().unwrap_or_default();
    let mut config = key_values::object(&args.config)?;
    for (key, value) in [("limits.cpu", &args.cpus), ("limits.memory", &args.memory)] {
        if let Some(value) = value {
            config.insert(key.into(), value.as_str().into());
        }
    }
    let profiles = match (args.no_profiles, args.profile.is_empty()) {
        (true, _) => json!([]),
        (false, true) => Value::Null,
        (false, false) => json!(args.profile),
    };
    let devices = devices(context, &args, &profiles).await?;
    let body = json!({
        "name": name,
        "description": args.description,
        "type": if args.vm { "virtual-machine" } else { "container" },
        "source": { "type": "image", "fingerprint": fingerprint },
        "config": config,
        "devices": devices,
        "profiles": profiles,
        "ephemeral": args.ephemeral,
        "start": start,
    });
    let what = if start { "Launching" } else { "Creating" };
    let operation = context
        .client
        .run(
            Method::POST,
            "/1.0/instances",
            Some(&body),
            &format!("{what} {name}"),
        )
        .await?;
    let made = made_name(&operation).unwrap_or(name);
    if args.name.is_none() {
        // Without a name the answer is the only place that has it.
        crate::output::print(&made)?;
    } else {
        context.remark(format!("{} {made}", if start { "Launched" } else { "Created" }));
    }
    Ok(())
}

/// Copies an instance or a snapshot.
pub(super) async fn copy(context: &Context, args: args::Copy) -> Result<()> {
    let (path, kind) = match args.source.split_once('/') {
        Some((instance, snapshot)) => (
            format!(
                "/1.0/instances/{}/snapshots/{}",
                escape(instance),
                escape(snapshot)
            ),
            "snapshot",
        ),
        None => (format!("/1.0/instances/{}", escape(&args.source)), "instance"),
    };
    let source = context.client.get_value(&path).await?;
    // Volatile keys belong to the source; the base image is kept, as it says what the copy is made of.
    let config: Map<String, Value> = source["config"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !key.starts_with("volatile.") || *key == "volatile.base_image")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let instance_type = match source["type"].as_str() {
        Some(kind) => json!(kind),
        None => {
            let instance = args.source.split('/').next().unwrap_or_default();
            context
                .client
                .get_value(&format!("/1.0/instances/{}", escape(instance)))
                .await?["type"]
                .clone()
        }
    };
    let body = json!({
        "name": args.name,
        "type": instance_type,
        "source": { "type": "copy", "source": args.source, "instance_only": args.instance_only || kind == "snapshot" },
        "config": config,
        "devices": source["devices"],
        "profiles": source["profiles"],
        "ephemeral": source["ephemeral"],
        "description": source["description"],
    });
    context
        .client
        .run(
            Method::POST,
            "/1.0/instances",
            Some(&body),
            &format!("Copying {}", args.source),
        )
        .await?;
    context.remark(format!("Copied {} to {}", args.source, args.name));
    Ok(())
}

/// The fingerprint of an image named by alias, fingerprint or the start of one.
pub(super) async fn resolve_image(context: &Context, image: &str) -> Result<String> {
    match context
        .client
        .get_value(&format!("/1.0/images/aliases/{}", escape(image)))
        .await
    {
        Ok(alias) => Ok(alias["target"].as_str().unwrap_or_default().to_owned()),
        Err(err) if err.is_not_found() => {
            let found = context.client.get_value(&format!("/1.0/images/{}", escape(image))).await.map_err(|err| {
                if err.is_not_found() {
                    Error::Api {
                        status: 404,
                        message: format!(
                            "no image has the alias or fingerprint '{image}'; `virga image list` shows those there are"
                        ),
                    }
                } else {
                    err
                }
            })?;
            Ok(found["fingerprint"].as_str().unwrap_or(image).to_owned())
        }
        Err(err) => Err(err),
    }
}

/// The devices that `--device`, `--network` and `--storage` make.
///
/// An option for a device that a profile has starts from the profile's device, since an instance's device
/// takes the whole place of the profile's.
async fn devices(context: &Context, args: &args::Create, profiles: &Value) -> Result<Value> {
    let mut devices: Map<String, Value> = Map::new();
    if args.device.is_empty() && args.network.is_none() && args.storage.is_none() {
        return Ok(Value::Object(devices));
    }
    let inherited = profile_devices(context, profiles).await?;
    let device = |name: &str| -> Map<String, Value> {
        inherited
            .get(name)
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    for text in &args.device {
        let (name, option) = text
            .split_once(',')
            .ok_or_else(|| Error::Usage(format!("'{text}' is not of the form DEVICE,KEY=VALUE")))?;
        let (key, value) = key_values::split(option)?;
        let entry = devices
            .entry(name.to_owned())
            .or_insert_with(|| Value::Object(device(name)));
        entry[key] = value.into();
    }
    if let Some(network) = &args.network {
        devices.insert(
            "eth0".into(),
            json!({ "type": "nic", "name": "eth0", "network": network }),
        );
    }
    if let Some(pool) = &args.storage {
        let mut root = device("root");
        root.insert("type".into(), "disk".into());
        root.insert("path".into(), "/".into());
        root.insert("pool".into(), pool.as_str().into());
        devices.insert("root".into(), Value::Object(root));
    }
    Ok(Value::Object(devices))
}

async fn profile_devices(context: &Context, profiles: &Value) -> Result<Map<String, Value>> {
    let names: Vec<String> = match profiles {
        Value::Array(list) => list
            .iter()
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect(),
        _ => vec!["default".to_owned()],
    };
    let mut devices = Map::new();
    for name in names {
        let profile = context
            .client
            .get_value(&format!("/1.0/profiles/{}", escape(&name)))
            .await?;
        if let Some(of_profile) = profile["devices"].as_object() {
            devices.extend(of_profile.clone());
        }
    }
    Ok(devices)
}

/// The name of the instance that a finished operation made.
fn made_name(operation: &Value) -> Option<String> {
    let url = operation["resources"]["instances"]
        .as_array()?
        .first()?
        .as_str()?;
    let name = url.rsplit('/').next()?;
    Some(name.split('?').next()?.to_owned())
}
