//! Who uses what: instances and profiles by the profiles, networks, pools and volumes they name.
//!
//! Instances are read from their documents, of which only `profiles`, `devices`, `pool`, `type` and `created_at`
//! matter here. What was read is kept until an instance, a snapshot or a profile changes, so that lists stay cheap.

use std::sync::{Arc, Mutex, PoisonError};

use api::{Devices, Map, Timestamp};
use serde::Deserialize;

use crate::ApiError;
use crate::projects::{self, Feature};
use crate::store::{Document, Store, keys};

/// An instance, a snapshot of one or a profile, as a user of other things.
#[derive(Debug, Clone)]
pub struct User {
    /// Which of the three it is.
    pub kind: UserKind,
    /// Its project.
    pub project: String,
    /// Its name; `instance/snapshot` for a snapshot.
    pub name: String,
    /// Its profiles, by the project that has them.
    pub profiles: Vec<String>,
    /// The project its profiles are in.
    pub profile_project: String,
    /// Its devices, with those of its profiles.
    pub devices: Devices,
    /// The pool its root disk is in; empty for a profile.
    pub pool: String,
    /// `container` or `virtual-machine`; empty for a profile.
    pub instance_type: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What uses something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserKind {
    /// An instance.
    Instance,
    /// A snapshot of an instance.
    Snapshot,
    /// A profile.
    Profile,
}

impl User {
    /// Its URL, as `used_by` lists show it.
    pub fn url(&self) -> String {
        let suffix = projects::url_suffix(&self.project);
        match (self.kind, self.name.split_once('/')) {
            (UserKind::Profile, _) => format!("/1.0/profiles/{}{suffix}", self.name),
            (UserKind::Snapshot, Some((instance, snapshot))) => {
                format!("/1.0/instances/{instance}/snapshots/{snapshot}{suffix}")
            }
            _ => format!("/1.0/instances/{}{suffix}", self.name),
        }
    }

    fn devices_of(&self, kind: &str) -> impl Iterator<Item = &Map> {
        self.devices
            .values()
            .filter(move |device| value(device, "type") == kind)
    }

    /// Whether one of its NICs is on a network.
    pub fn uses_network(&self, network: &str) -> bool {
        self.devices_of("nic")
            .any(|nic| value(nic, "network") == network || value(nic, "parent") == network)
    }

    /// Whether one of its disks is in a pool.
    pub fn uses_pool(&self, pool: &str) -> bool {
        self.pool == pool || self.devices_of("disk").any(|disk| value(disk, "pool") == pool)
    }

    /// Whether one of its disks is a custom volume.
    pub fn uses_volume(&self, pool: &str, volume: &str) -> bool {
        self.devices_of("disk").any(|disk| {
            let source = value(disk, "source").split('/').next().unwrap_or_default();
            value(disk, "pool") == pool && source == volume
        })
    }
}

fn value<'a>(device: &'a Map, key: &str) -> &'a str {
    device.get(key).map(String::as_str).unwrap_or_default()
}

/// What of an instance's or snapshot's document matters.
#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    profiles: Vec<String>,
    #[serde(default)]
    devices: Devices,
    #[serde(default)]
    expanded_devices: Devices,
    #[serde(default)]
    pool: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    created_at: Timestamp,
}

/// All users, read when something has changed.
#[derive(Debug, Default)]
pub struct Users {
    cached: Mutex<Option<(Stamp, Arc<Vec<User>>)>>,
}

/// Tells whether documents have changed: how many there are and their newest revision, by kind.
type Stamp = [(usize, u64); 4];

fn stamp(documents: &[Document]) -> (usize, u64) {
    (
        documents.len(),
        documents.iter().map(Document::revision).max().unwrap_or_default(),
    )
}

impl Users {
    /// All instances, snapshots and profiles.
    pub fn all(&self, store: &dyn Store) -> Result<Arc<Vec<User>>, ApiError> {
        let instances = store.list(keys::INSTANCES)?;
        let snapshots = store.list(keys::SNAPSHOTS)?;
        let profiles = store.list(keys::PROFILES)?;
        let projects = store.list(keys::PROJECTS)?;
        let stamp = [
            stamp(&instances),
            stamp(&snapshots),
            stamp(&profiles),
            stamp(&projects),
        ];
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, users)) = cached.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(users));
        }
        let users = Arc::new(read(store, &instances, &snapshots, &profiles)?);
        *cached = Some((stamp, Arc::clone(&users)));
        Ok(users)
    }

    /// URLs of those that `uses` is true for, sorted as Incus sorts them: by URL.
    pub fn urls(&self, store: &dyn Store, uses: impl Fn(&User) -> bool) -> Result<Vec<String>, ApiError> {
        let mut urls: Vec<String> = self
            .all(store)?
            .iter()
            .filter(|user| uses(user))
            .map(User::url)
            .collect();
        urls.sort();
        Ok(urls)
    }
}

fn read(
    store: &dyn Store,
    instances: &[Document],
    snapshots: &[Document],
    profiles: &[Document],
) -> Result<Vec<User>, ApiError> {
    let mut users = Vec::with_capacity(instances.len() + snapshots.len() + profiles.len());
    let mut by_profile = std::collections::HashMap::new();
    for document in profiles {
        if let [_, project, name] = keys::parts(document.key())[..] {
            let profile: api::Profile = document.to()?;
            by_profile.insert((project.to_owned(), name.to_owned()), profile.devices.clone());
            users.push(User {
                kind: UserKind::Profile,
                project: project.to_owned(),
                name: name.to_owned(),
                profiles: Vec::new(),
                profile_project: project.to_owned(),
                devices: profile.devices,
                pool: String::new(),
                instance_type: String::new(),
                created_at: Timestamp::never(),
            });
        }
    }
    for (kind, document) in instances
        .iter()
        .map(|document| (UserKind::Instance, document))
        .chain(snapshots.iter().map(|document| (UserKind::Snapshot, document)))
    {
        let content: Content = document.to()?;
        let parts = keys::parts(document.key());
        let (Some(project), name) = (parts.get(1), parts.get(2..).unwrap_or_default().join("/")) else {
            continue;
        };
        let profile_project = projects::effective(store, project, Feature::Profiles)?;
        let devices = if kind == UserKind::Snapshot && !content.expanded_devices.is_empty() {
            content.expanded_devices
        } else {
            let mut devices = Devices::new();
            for profile in &content.profiles {
                if let Some(more) = by_profile.get(&(profile_project.clone(), profile.clone())) {
                    devices.extend(more.clone());
                }
            }
            devices.extend(content.devices);
            devices
        };
        users.push(User {
            kind,
            project: (*project).to_owned(),
            name,
            profiles: content.profiles,
            profile_project,
            devices,
            pool: content.pool,
            instance_type: content.kind,
            created_at: content.created_at,
        });
    }
    Ok(users)
}
