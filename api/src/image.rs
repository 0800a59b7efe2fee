//! Images and their aliases.

use serde::{Deserialize, Serialize};

use crate::{Map, Timestamp, null_default};

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Whether to follow its source.
    #[serde(default)]
    pub auto_update: bool,
    /// Properties.
    #[serde(default, deserialize_with = "null_default")]
    pub properties: Map,
    /// Whether anybody may fetch it.
    #[serde(default)]
    pub public: bool,
    /// When it is removed by itself.
    #[serde(default)]
    pub expires_at: Timestamp,
    /// Profiles that instances of it get.
    #[serde(default, deserialize_with = "null_default")]
    pub profiles: Vec<String>,
    /// Its aliases.
    #[serde(default, deserialize_with = "null_default")]
    pub aliases: Vec<ImageAlias>,
    /// The machine it is for.
    pub architecture: String,
    /// Whether it was fetched for an instance only.
    #[serde(default)]
    pub cached: bool,
    /// The name of its file when it came.
    #[serde(default)]
    pub filename: String,
    /// SHA-256 of its files.
    pub fingerprint: String,
    /// Bytes of its files.
    #[serde(default)]
    pub size: u64,
    /// Where it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_source: Option<ImagesPostSource>,
    /// `container` or `virtual-machine`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// When it was made.
    #[serde(default)]
    pub created_at: Timestamp,
    /// When an instance was made of it.
    #[serde(default)]
    pub last_used_at: Timestamp,
    /// When it came here.
    #[serde(default)]
    pub uploaded_at: Timestamp,
    /// Its project.
    #[serde(default)]
    pub project: String,
}

/// An alias, as an image shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAlias {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
}

/// What can be changed of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagePut {
    /// Whether to follow its source.
    #[serde(default, deserialize_with = "null_default")]
    pub auto_update: bool,
    /// Properties.
    #[serde(default, deserialize_with = "null_default")]
    pub properties: Map,
    /// Whether anybody may fetch it.
    #[serde(default, deserialize_with = "null_default")]
    pub public: bool,
    /// When it is removed by itself.
    #[serde(default)]
    pub expires_at: Timestamp,
    /// Profiles that instances of it get; `null` for what is there.
    #[serde(default)]
    pub profiles: Option<Vec<String>>,
}

/// A new image that is made from something other than the request's body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesPost {
    /// Its content.
    #[serde(flatten)]
    pub put: ImagePut,
    /// A name for its file.
    #[serde(default, deserialize_with = "null_default")]
    pub filename: String,
    /// What it is made from.
    #[serde(default)]
    pub source: Option<ImagesPostSource>,
    /// How to compress it.
    #[serde(default, deserialize_with = "null_default")]
    pub compression_algorithm: String,
    /// Aliases for it.
    #[serde(default, deserialize_with = "null_default")]
    pub aliases: Vec<ImageAlias>,
    /// `unified` or `split`.
    #[serde(
        default,
        deserialize_with = "null_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub format: String,
}

/// What an image is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesPostSource {
    /// Alias on another server.
    #[serde(default, deserialize_with = "null_default")]
    pub alias: String,
    /// That server's certificate.
    #[serde(default, deserialize_with = "null_default")]
    pub certificate: String,
    /// `incus`, `simplestreams`, `oci` or `direct`.
    #[serde(default, deserialize_with = "null_default")]
    pub protocol: String,
    /// URL of that server.
    #[serde(default, deserialize_with = "null_default")]
    pub server: String,
    /// `container` or `virtual-machine`.
    #[serde(default, deserialize_with = "null_default")]
    pub image_type: String,
    /// `pull` or `push`.
    #[serde(default, deserialize_with = "null_default")]
    pub mode: String,
    /// `instance`, `snapshot`, `image` or `url`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// URL of the image.
    #[serde(default, deserialize_with = "null_default")]
    pub url: String,
    /// The instance or snapshot.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// The image on the other server.
    #[serde(default, deserialize_with = "null_default")]
    pub fingerprint: String,
    /// Secret for a private image.
    #[serde(default, deserialize_with = "null_default")]
    pub secret: String,
    /// Project of the source.
    #[serde(default, deserialize_with = "null_default")]
    pub project: String,
}

/// An alias on its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAliasesEntry {
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Fingerprint of the image.
    pub target: String,
    /// The name.
    pub name: String,
    /// The image's type.
    #[serde(rename = "type", default)]
    pub kind: String,
}

/// A new alias.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAliasesPost {
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Fingerprint of the image.
    #[serde(default, deserialize_with = "null_default")]
    pub target: String,
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// The image's type.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
}

/// What can be changed of an alias.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAliasesEntryPut {
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Fingerprint of the image.
    #[serde(default, deserialize_with = "null_default")]
    pub target: String,
}

/// An alias' new name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAliasesEntryPost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
}
