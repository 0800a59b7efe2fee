//! Projects: namespaces for everything else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Map, null_default};

/// A project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
    /// URLs of what is in it.
    #[serde(default, deserialize_with = "null_default")]
    pub used_by: Vec<String>,
}

/// What can be changed of a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectPut {
    /// Configuration keys.
    #[serde(default, deserialize_with = "null_default")]
    pub config: Map,
    /// What it is for.
    #[serde(default, deserialize_with = "null_default")]
    pub description: String,
}

/// A new project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectsPost {
    /// Its content.
    #[serde(flatten)]
    pub put: ProjectPut,
    /// Its name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
}

/// A project's new name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectPost {
    /// The name.
    #[serde(default, deserialize_with = "null_default")]
    pub name: String,
}

/// What a project uses of what it may use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectState {
    /// By resource: `containers`, `cpu`, `disk`, …
    pub resources: BTreeMap<String, ProjectStateResource>,
}

/// Use and limit of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProjectStateResource {
    /// At most so much; -1 without a limit.
    pub limit: i64,
    /// So much is used.
    pub usage: i64,
}
