//! Certificates that clients are trusted by.

use serde::{Deserialize, Serialize};

use crate::null_default;

/// A trusted certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its name.
    pub name: String,
    /// `client`, `metrics` or `server`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it may see only `projects`.
    pub restricted: bool,
    /// Those projects.
    #[serde(default, deserialize_with = "null_default")]
    pub projects: Vec<String>,
    /// The certificate in PEM.
    pub certificate: String,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// SHA-256 of its DER form.
    pub fingerprint: String,
}

/// What can be changed of a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificatePut {
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// `client` or `metrics`.
    #[serde(rename = "type", default, deserialize_with = "null_default")]
    pub kind: String,
    /// Whether it may see only `projects`.
    #[serde(default, deserialize_with = "null_default")]
    pub restricted: bool,
    /// Those projects.
    #[serde(default, deserialize_with = "null_default")]
    pub projects: Vec<String>,
    /// The certificate: PEM in PUT, base64 of DER in POST.
    #[serde(default, deserialize_with = "null_default")]
    pub certificate: String,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
}

/// A new certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificatesPost {
    /// Its content.
    #[serde(flatten)]
    pub put: CertificatePut,
    /// A token instead of a client's word.
    #[serde(default, deserialize_with = "null_default")]
    pub trust_token: String,
    /// Whether to make a token.
    #[serde(default, deserialize_with = "null_default")]
    pub token: bool,
}
