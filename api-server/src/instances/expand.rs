//! Profiles and an instance's own settings, put together: later profiles win over earlier ones, the instance over all.

use api::{Devices, Map, Profile};

use super::record::InstanceRecord;
use crate::ApiError;
use crate::projects::{self, Feature};
use crate::store::{self, Store, keys};

/// What an instance comes to with its profiles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// Configuration.
    pub config: Map,
    /// Devices; those of type `none` included.
    pub devices: Devices,
}

impl Expanded {
    /// A configuration key's value; empty when it is not set.
    pub fn get(&self, key: &str) -> &str {
        self.config.get(key).map_or("", String::as_str)
    }

    /// Whether a key says yes.
    pub fn is_true(&self, key: &str) -> bool {
        crate::config_keys::is_true(self.get(key))
    }
}

/// Puts profiles (first to last) and own settings together.
pub fn merge(profiles: &[Profile], config: &Map, devices: &Devices) -> Expanded {
    let mut expanded = Expanded::default();
    for profile in profiles {
        expanded.config.extend(profile.config.clone());
        expanded.devices.extend(profile.devices.clone());
    }
    expanded.config.extend(config.clone());
    // A device replaces another of the same name as a whole; keys are not merged.
    expanded.devices.extend(devices.clone());
    expanded
}

/// Loads profiles in order. One that does not exist is Incus' 404.
pub fn load_profiles(store: &dyn Store, project: &str, names: &[String]) -> Result<Vec<Profile>, ApiError> {
    let project = projects::effective(store, project, Feature::Profiles)?;
    names
        .iter()
        .map(
            |name| match store::get_as::<Profile>(store, &keys::profile(&project, name))? {
                Some((profile, _)) => Ok(profile),
                None => {
                    Err(ApiError::not_found("Profile").context(format!("Failed loading profile {name:?}")))
                }
            },
        )
        .collect()
}

/// An instance with its profiles. A profile that has disappeared counts for nothing: an instance can always be shown.
pub fn expand(store: &dyn Store, record: &InstanceRecord) -> Result<Expanded, ApiError> {
    let project = projects::effective(store, &record.project, Feature::Profiles)?;
    let mut profiles = Vec::with_capacity(record.profiles.len());
    for name in &record.profiles {
        if let Some((profile, _)) = store::get_as::<Profile>(store, &keys::profile(&project, name))? {
            profiles.push(profile);
        }
    }
    Ok(merge(&profiles, &record.config, &record.devices))
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
