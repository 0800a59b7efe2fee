//! Projects, and which of its own things a project has.
//!
//! A project without a feature (`features.images=false`) uses the default project's things of that kind.

use api::Map;

use crate::ApiError;
use crate::config_keys::is_true;
use crate::store::{Store, keys};

/// A kind of thing that a project has for itself or shares with the default project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Images and aliases.
    Images,
    /// Profiles.
    Profiles,
    /// Custom volumes.
    StorageVolumes,
    /// Networks.
    Networks,
}

impl Feature {
    /// The configuration key.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Images => "features.images",
            Self::Profiles => "features.profiles",
            Self::StorageVolumes => "features.storage.volumes",
            Self::Networks => "features.networks",
        }
    }
}

/// Fails with 404 when there is no such project.
pub fn check_exists(store: &dyn Store, project: &str) -> Result<(), ApiError> {
    // A request names its project in its query, so this is on the path of every request: no parsing.
    match store.get(&keys::project(project))? {
        Some(_) => Ok(()),
        None => Err(ApiError::not_found("Project")),
    }
}

/// A project.
pub fn get(store: &dyn Store, project: &str) -> Result<api::Project, ApiError> {
    let document = store
        .get(&keys::project(project))?
        .ok_or_else(|| ApiError::not_found("Project"))?;
    Ok(document.to()?)
}

/// The project whose things of a kind `project` uses: itself or the default one.
pub fn effective(store: &dyn Store, project: &str, feature: Feature) -> Result<String, ApiError> {
    if project == api::DEFAULT_PROJECT {
        return Ok(project.to_owned());
    }
    let own = has(&get(store, project)?.config, feature);
    Ok(if own {
        project.to_owned()
    } else {
        api::DEFAULT_PROJECT.to_owned()
    })
}

/// Whether a project with this configuration has its own things of a kind.
pub fn has(config: &Map, feature: Feature) -> bool {
    config.get(feature.key()).is_some_and(|value| is_true(value))
}

/// `?project=P`, or nothing for the default project: what Incus appends to URLs.
pub fn url_suffix(project: &str) -> String {
    if project == api::DEFAULT_PROJECT {
        String::new()
    } else {
        format!("?project={project}")
    }
}
