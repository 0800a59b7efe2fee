//! `metadata.yaml`, the description every Incus image carries (Incus documentation, "Image format").

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::architecture::canonical_architecture;
use crate::error::{Error, Result};

/// Largest accepted `metadata.yaml`; real ones have a few kilobytes.
pub(crate) const METADATA_MAX: u64 = 1 << 20;

/// What an image says about itself. Unknown fields are accepted, as Incus does, and lost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Metadata {
    /// Architecture by its kernel name, such as `x86_64`.
    #[serde(default)]
    pub architecture: String,
    /// When the image was made, in seconds since 1970.
    #[serde(default)]
    pub creation_date: i64,
    /// When it should no longer be used, in seconds since 1970; 0 is never.
    #[serde(default)]
    pub expiry_date: i64,
    /// `os`, `release`, `variant`, `description` and what else the maker wants to say.
    #[serde(default, deserialize_with = "strings")]
    pub properties: BTreeMap<String, String>,
    /// Files to fill in when an instance is made, copied or started, by their path in the instance.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub templates: BTreeMap<String, Template>,
}

/// A file that the daemon renders into an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Template {
    /// On which occasions: `create`, `copy`, `rename`, `start`.
    #[serde(default)]
    pub when: Vec<String>,
    /// Leave an existing file alone.
    #[serde(default)]
    pub create_only: bool,
    /// The template's file name under `templates/`.
    #[serde(default)]
    pub template: String,
    /// Values the template may use.
    #[serde(default, deserialize_with = "strings")]
    pub properties: BTreeMap<String, String>,
}

impl Metadata {
    /// Parses and checks `metadata.yaml`.
    pub fn from_yaml(text: &[u8]) -> Result<Self> {
        if text.len() as u64 > METADATA_MAX {
            let reason = format!("it has {} bytes; {METADATA_MAX} are allowed", text.len());
            return Err(Error::Metadata(reason));
        }
        let mut metadata: Metadata =
            serde_norway::from_slice(text).map_err(|err| Error::Metadata(err.to_string()))?;
        if metadata.architecture.is_empty() {
            return Err(Error::Metadata("it names no architecture".into()));
        }
        match canonical_architecture(&metadata.architecture) {
            Some(name) => name.clone_into(&mut metadata.architecture),
            None => {
                let reason = format!("architecture '{}' isn't supported", metadata.architecture);
                return Err(Error::Metadata(reason));
            }
        }
        for (target, template) in &metadata.templates {
            let file = template.template.as_str();
            if matches!(file, "" | "." | "..") || file.contains(['/', '\0']) {
                let reason = format!("the template '{file}' for '{target}' is no file name");
                return Err(Error::Metadata(reason));
            }
            if !target.starts_with('/') || target.contains('\0') || target.split('/').any(|part| part == "..")
            {
                return Err(Error::Metadata(format!(
                    "the template's target '{target}' is no absolute path"
                )));
            }
        }
        Ok(metadata)
    }

    /// The YAML text.
    pub fn to_yaml(&self) -> Result<String> {
        serde_norway::to_string(self).map_err(|err| Error::Metadata(err.to_string()))
    }
}

fn null_is_empty<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// YAML reads `release: 12` as a number; to everyone else it is text.
fn strings<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    use serde_norway::Value;
    let values: Option<BTreeMap<String, Value>> = Option::deserialize(deserializer)?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        other => serde_norway::to_string(&other)
            .unwrap_or_default()
            .trim_end()
            .to_owned(),
    };
    Ok(values
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, text(value)))
        .collect())
}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
