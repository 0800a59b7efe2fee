//! `metadata.yaml`, the description every Incus image carries (Incus documentation, "Image format").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Files to fill in when an instance is made, copied or started, by their path in the instance.
    #[serde(default)]
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
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

impl Metadata {
    /// Parses and checks `metadata.yaml`.
    pub fn from_yaml(text: &[u8]) -> Result<Self> {
        let _ = text;
        Err(Error::Metadata(String::new()))
    }
}
