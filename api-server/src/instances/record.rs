//! [`InstanceRecord`]: an instance as the store keeps it.
//!
//! Everything about an instance that must outlive the daemon is here or in its run directory. The record's [`Phase`] says what
//! was being done to it when nobody came back to say that it was done; [`super::recover`] reads it.

use api::{Devices, Instance, InstanceType, Map, StatusCode, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::paths::StatePaths;
use crate::store::{self, Change, Document, Revision, Store, keys};

/// What is being done to an instance's resources. Starting and stopping are no phases: the run directory tells about them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Phase {
    /// Being made: after a crash it is taken apart again.
    Creating,
    /// Complete.
    #[default]
    Ready,
    /// Being removed: after a crash the removal goes on.
    Deleting,
    /// Getting a new name: after a crash the renaming goes on.
    Renaming {
        /// The new name.
        to: String,
    },
    /// Its content is being replaced by that of one of its snapshots: after a crash that is done again.
    Restoring {
        /// The snapshot.
        snapshot: String,
    },
    /// Its content is being replaced by an image's: after a crash that is done again, or it is left empty without the image.
    Rebuilding {
        /// The image; empty for no content.
        fingerprint: String,
    },
}

/// An instance, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its name.
    pub name: String,
    /// Its project.
    pub project: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: InstanceType,
    /// The machine it is for.
    pub architecture: String,
    /// Its own configuration, `volatile.*` included.
    pub config: Map,
    /// Its own devices.
    pub devices: Devices,
    /// Its profiles, the last one wins.
    pub profiles: Vec<String>,
    /// Whether it disappears when it stops.
    pub ephemeral: bool,
    /// What it is for.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was started last.
    pub last_used_at: Timestamp,
    /// The pool of its root disk.
    pub pool: String,
    /// What is being done to it.
    #[serde(default)]
    pub phase: Phase,
}

/// A snapshot of an instance as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRecord {
    /// Its name, without the instance's.
    pub name: String,
    /// The machine it is for.
    pub architecture: String,
    /// The instance's own configuration then.
    pub config: Map,
    /// The instance's own devices then.
    pub devices: Devices,
    /// The instance's profiles then.
    pub profiles: Vec<String>,
    /// Whether the instance was ephemeral.
    pub ephemeral: bool,
    /// Configuration with profiles then.
    pub expanded_config: Map,
    /// Devices with profiles then.
    pub expanded_devices: Devices,
    /// What the snapshot is for.
    #[serde(default)]
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the instance had been started last.
    pub last_used_at: Timestamp,
    /// When it is removed by itself.
    pub expires_at: Timestamp,
    /// `Creating`, `Ready` or `Deleting`.
    #[serde(default)]
    pub phase: Phase,
}

impl InstanceRecord {
    /// Its name on disk.
    pub fn disk_name(&self) -> String {
        StatePaths::disk_name(&self.project, &self.name)
    }

    /// Its key in the store.
    pub fn key(&self) -> String {
        keys::instance(&self.project, &self.name)
    }

    /// Its volume in its pool.
    pub fn volume(&self) -> storage::VolumeId {
        volume_id(self.kind, &self.disk_name())
    }

    /// Its URL; other projects than the default one are named.
    pub fn url(&self) -> String {
        url(&self.project, &self.name)
    }

    /// Whether it is a virtual machine.
    pub fn is_vm(&self) -> bool {
        self.kind == InstanceType::VirtualMachine
    }

    /// Sets or removes a `volatile.` key.
    pub fn set_volatile(&mut self, key: &str, value: Option<String>) {
        let key = format!("volatile.{key}");
        match value {
            Some(value) => self.config.insert(key, value),
            None => self.config.remove(&key),
        };
    }

    /// A `volatile.` key.
    pub fn volatile(&self, key: &str) -> Option<&str> {
        self.config.get(&format!("volatile.{key}")).map(String::as_str)
    }

    /// As the API shows it.
    pub fn render(&self, expanded_config: Map, expanded_devices: Devices, status: StatusCode) -> Instance {
        Instance {
            architecture: self.architecture.clone(),
            config: self.config.clone(),
            devices: self.devices.clone(),
            ephemeral: self.ephemeral,
            profiles: self.profiles.clone(),
            stateful: false,
            description: self.description.clone(),
            created_at: self.created_at,
            expanded_config,
            expanded_devices,
            name: self.name.clone(),
            status: status.text().to_owned(),
            status_code: status,
            last_used_at: self.last_used_at,
            location: api::LOCATION_NONE.to_owned(),
            kind: self.kind,
            project: self.project.clone(),
        }
    }
}

impl SnapshotRecord {
    /// As the API shows it; Incus shows the name without the instance's.
    pub fn render(&self) -> api::InstanceSnapshot {
        api::InstanceSnapshot {
            expires_at: self.expires_at,
            architecture: self.architecture.clone(),
            config: self.config.clone(),
            created_at: self.created_at,
            devices: self.devices.clone(),
            ephemeral: self.ephemeral,
            expanded_config: self.expanded_config.clone(),
            expanded_devices: self.expanded_devices.clone(),
            last_used_at: self.last_used_at,
            name: self.name.clone(),
            profiles: self.profiles.clone(),
            stateful: false,
            size: -1,
        }
    }
}

/// The volume of an instance.
pub fn volume_id(kind: InstanceType, disk_name: &str) -> storage::VolumeId {
    let (kind, content) = match kind {
        InstanceType::Container => (storage::VolumeKind::Container, storage::ContentType::Filesystem),
        InstanceType::VirtualMachine => (storage::VolumeKind::VirtualMachine, storage::ContentType::Block),
    };
    storage::VolumeId {
        kind,
        content,
        name: disk_name.to_owned(),
    }
}

/// The URL of an instance.
pub fn url(project: &str, name: &str) -> String {
    if project == api::DEFAULT_PROJECT {
        format!("/1.0/instances/{name}")
    } else {
        format!("/1.0/instances/{name}?project={project}")
    }
}

/// Loads an instance, or says that there is none.
pub fn load(store: &dyn Store, project: &str, name: &str) -> Result<(InstanceRecord, Document), ApiError> {
    store::get_as(store, &keys::instance(project, name))?.ok_or_else(|| ApiError::not_found("Instance"))
}

/// All instances of a project, or of all of them.
pub fn all(store: &dyn Store, project: Option<&str>) -> Result<Vec<(InstanceRecord, Document)>, ApiError> {
    let prefix = project.map_or_else(|| keys::INSTANCES.to_owned(), keys::instances);
    Ok(store::list_as(store, &prefix)?)
}

/// The snapshots of an instance, oldest first; those being made or removed are left out.
pub fn snapshots(store: &dyn Store, project: &str, instance: &str) -> Result<Vec<SnapshotRecord>, ApiError> {
    let mut found: Vec<SnapshotRecord> = store::list_as(store, &keys::snapshots(project, instance))?
        .into_iter()
        .map(|(record, _)| record)
        .filter(|record: &SnapshotRecord| record.phase == Phase::Ready)
        .collect();
    found.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    Ok(found)
}

/// A snapshot, or Incus' words for its absence.
pub fn load_snapshot(
    store: &dyn Store,
    project: &str,
    instance: &str,
    name: &str,
) -> Result<(SnapshotRecord, Document), ApiError> {
    store::get_as(store, &keys::snapshot(project, instance, name))?.ok_or_else(|| {
        ApiError::not_found("Instance_snapshot").context(format!(
            "Failed to fetch snapshot {name:?} of instance {instance:?} in project {project:?}"
        ))
    })
}

/// Changes a record: reads it, lets `change` work on it, writes it if nobody else has meanwhile, and tries again otherwise.
/// `change` must therefore only look at what it is given.
pub fn update<T>(
    store: &dyn Store,
    project: &str,
    name: &str,
    mut change: impl FnMut(&mut InstanceRecord) -> Result<T, ApiError>,
) -> Result<(InstanceRecord, T), ApiError> {
    // A writer loses only when another one wins, so this ends as soon as there are no more writers than tries.
    const TRIES: usize = 20;
    for _ in 0..TRIES {
        let (mut record, document) = load(store, project, name)?;
        let before = record.clone();
        let answer = change(&mut record)?;
        if record == before {
            return Ok((record, answer));
        }
        let written = Change::put(record.key(), &record, Revision::Exact(document.revision()))?;
        match store.transact(vec![written]) {
            Ok(_) => return Ok((record, answer)),
            Err(store::StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict(format!(
        "Instance {name:?} is being changed by too many others at once"
    )))
}
