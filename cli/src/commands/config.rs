//! `virga config`: keys of an instance or of the daemon.

use std::io::{Read, Seek, Write};

use http::Method;
use serde_json::{Map, Value, json};

use super::{Context, key_values};
use crate::args;
use crate::client::escape;
use crate::error::{Error, Result};
use crate::output;

/// Parts of an instance's document that a client may change.
const INSTANCE_FIELDS: [&str; 7] = [
    "architecture",
    "config",
    "description",
    "devices",
    "ephemeral",
    "profiles",
    "stateful",
];

/// Does one verb.
pub(super) async fn run(context: &Context, verb: args::Config) -> Result<()> {
    match verb {
        args::Config::Get { target } => {
            let (path, key) = key_target(&target);
            let document = context.client.get_value(&path).await?;
            output::print(&format!("{}\n", output::text(&document["config"][key])))
        }
        args::Config::Unset { target } => {
            let (path, key) = key_target(&target);
            change(context, &path, |config| {
                config.remove(key);
                Ok(())
            })
            .await
        }
        args::Config::Set { target } => {
            let (instance, pairs) = set_target(&target)?;
            change(context, &path_of(instance), |config| {
                config.extend(pairs);
                Ok(())
            })
            .await
        }
        args::Config::Show { name, expanded } => {
            let document = context.client.get_value(&path_of(name.as_deref())).await?;
            let shown = match (&name, expanded) {
                (None, _) => json!({ "config": document["config"] }),
                (Some(_), false) => editable(&document),
                (Some(_), true) => {
                    let mut shown = editable(&document);
                    shown["config"] = document["expanded_config"].clone();
                    shown["devices"] = document["expanded_devices"].clone();
                    shown
                }
            };
            output::document(context.format, &shown)
        }
        args::Config::Edit { name } => edit(context, name.as_deref()).await,
    }
}

fn path_of(instance: Option<&str>) -> String {
    match instance {
        Some(name) => format!("/1.0/instances/{}", escape(name)),
        None => "/1.0".to_owned(),
    }
}

/// `[INSTANCE] KEY`.
fn key_target(target: &[String]) -> (String, &str) {
    match target {
        [instance, key] => (path_of(Some(instance)), key),
        [key] => (path_of(None), key),
        _ => (path_of(None), ""),
    }
}

/// `[INSTANCE] KEY=VALUE...`, or `INSTANCE KEY VALUE`.
fn set_target(target: &[String]) -> Result<(Option<&str>, Map<String, Value>)> {
    if let [instance, key, value] = target
        && !instance.contains('=')
        && !key.contains('=')
    {
        return Ok((
            Some(instance),
            Map::from_iter([(key.clone(), value.as_str().into())]),
        ));
    }
    match target.split_first() {
        Some((first, rest)) if !first.contains('=') && !rest.is_empty() => {
            Ok((Some(first), key_values::object(rest)?))
        }
        _ => Ok((None, key_values::object(target)?)),
    }
}

/// Reads the document, changes its configuration and writes it back, refused when it changed meanwhile.
async fn change<F>(context: &Context, path: &str, step: F) -> Result<()>
where
    F: FnOnce(&mut Map<String, Value>) -> Result<()>,
{
    let answer = context.client.get(path).await?;
    let mut document = if path == "/1.0" {
        json!({ "config": answer.metadata["config"] })
    } else {
        editable(&answer.metadata)
    };
    if !document["config"].is_object() {
        document["config"] = json!({});
    }
    if let Some(config) = document["config"].as_object_mut() {
        step(config)?;
    }
    put(context, path, &document, answer.etag.as_deref()).await
}

async fn put(context: &Context, path: &str, document: &Value, etag: Option<&str>) -> Result<()> {
    let answer = context
        .client
        .call_if_match(Method::PUT, path, Some(document), etag)
        .await?;
    context
        .client
        .finish(answer, "Changing the configuration")
        .await?;
    Ok(())
}

fn editable(document: &Value) -> Value {
    INSTANCE_FIELDS
        .iter()
        .map(|field| ((*field).to_owned(), document[*field].clone()))
        .collect::<Map<_, _>>()
        .into()
}

async fn edit(context: &Context, name: Option<&str>) -> Result<()> {
    let path = path_of(name);
    let answer = context.client.get(&path).await?;
    let before = match name {
        Some(_) => editable(&answer.metadata),
        None => json!({ "config": answer.metadata["config"] }),
    };
    let text = if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        edit_text(&output::yaml(&before)?)?
    } else {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|err| Error::io("read standard input", err))?;
        text
    };
    let after: Value = serde_norway::from_str(&text)
        .map_err(|err| Error::Usage(format!("what was written is no YAML, nothing was changed: {err}")))?;
    if after == before {
        context.remark("nothing changed");
        return Ok(());
    }
    put(context, &path, &after, answer.etag.as_deref()).await
}

/// Opens `$VISUAL`, `$EDITOR` or vi on `text` and gives what was saved.
fn edit_text(text: &str) -> Result<String> {
    let failed = |err| Error::io("use a temporary file for the editor", err);
    let mut file = tempfile::Builder::new()
        .prefix("virga-")
        .suffix(".yaml")
        .tempfile()
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    let editor = ["VISUAL", "EDITOR"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "vi".to_owned());
    // Through the shell, as an editor may come with arguments.
    let status = std::process::Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status()
        .map_err(|err| Error::io(format!("start the editor '{editor}'"), err))?;
    if !status.success() {
        return Err(Error::Usage(format!(
            "the editor '{editor}' ended with {status}; nothing was changed"
        )));
    }
    // An editor may have replaced the file: read it by its path.
    let mut file = std::fs::File::open(file.path()).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
