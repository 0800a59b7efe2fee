//! Wire types of the REST API: what `virgad` sends and accepts, what the command line reads and writes.
//!
//! The shapes are those of Incus' REST API 1.0, field for field and in Incus' order, so that a golden comparison
//! with a recorded conversation is a comparison of text. Three rules hold everywhere:
//!
//! - A field that is absent or `null` in a request has Go's zero value (empty text, `false`, zero time); unknown
//!   fields are ignored, as Incus ignores them. Unknown *configuration keys* are refused, but by the server.
//! - Maps are [`Map`]s (sorted), because Incus sorts them.
//! - Where Incus answers `null` for an empty list the field is an `Option`; where it answers `[]` it is a `Vec`.
//!
//! Nothing here does anything: no input or output, no policy.

mod certificate;
mod cluster;
mod event;
mod image;
mod instance;
mod instance_action;
mod instance_snapshot;
mod instance_state;
mod network;
mod network_state;
mod null;
mod operation;
mod profile;
mod project;
pub mod resources;
mod response;
mod server;
mod status;
mod storage_pool;
mod storage_volume;
pub mod time;
mod warning;

pub use certificate::{Certificate, CertificatePut, CertificatesPost};
pub use cluster::{Cluster, ClusterMemberConfigKey};
pub use event::{Event, EventLifecycle, EventLogging, EventRequestor};
pub use image::{
    Image, ImageAlias, ImageAliasesEntry, ImageAliasesEntryPost, ImageAliasesEntryPut, ImageAliasesPost,
    ImagePut, ImagesPost, ImagesPostSource,
};
pub use instance::{
    Instance, InstanceFull, InstancePost, InstancePostTarget, InstancePut, InstanceSource, InstanceType,
    InstancesPost,
};
pub use instance_action::{
    InstanceConsolePost, InstanceExecControl, InstanceExecPost, InstanceRebuildPost, InstanceStatePut,
    InstancesPut,
};
pub use instance_snapshot::{
    InstanceSnapshot, InstanceSnapshotPost, InstanceSnapshotPut, InstanceSnapshotsPost,
};
pub use instance_state::{
    InstanceState, InstanceStateCpu, InstanceStateDisk, InstanceStateMemory, InstanceStateNetwork,
    InstanceStateNetworkAddress, InstanceStateNetworkCounters, InstanceStateOsInfo,
};
pub use network::{Network, NetworkAllocation, NetworkLease, NetworkPost, NetworkPut, NetworksPost};
pub use network_state::{
    NetworkState, NetworkStateAddress, NetworkStateBridge, NetworkStateCounters, NetworkStateVlan,
};
pub use null::null_default;
pub use operation::{Operation, OperationClass};
pub use profile::{Profile, ProfilePost, ProfilePut, ProfilesPost};
pub use project::{Project, ProjectPost, ProjectPut, ProjectState, ProjectStateResource, ProjectsPost};
pub use response::{Envelope, EnvelopeKind};
pub use server::{Environment, Server, ServerPut, ServerStorageDriver};
pub use status::StatusCode;
pub use storage_pool::{
    ResourcesStoragePool, ResourcesStoragePoolInodes, ResourcesStoragePoolSpace, StoragePool, StoragePoolPut,
    StoragePoolsPost,
};
pub use storage_volume::{
    StorageVolume, StorageVolumePost, StorageVolumePut, StorageVolumeSnapshot, StorageVolumeSnapshotPost,
    StorageVolumeSnapshotPut, StorageVolumeSnapshotsPost, StorageVolumeSource, StorageVolumeState,
    StorageVolumeStateUsage, StorageVolumesPost,
};
pub use time::Timestamp;
pub use warning::{Warning, WarningPut};

/// A sorted map of texts: configuration, properties.
pub type Map = std::collections::BTreeMap<String, String>;

/// Devices of an instance or a profile, by name.
pub type Devices = std::collections::BTreeMap<String, Map>;

/// The name of the project that always exists.
pub const DEFAULT_PROJECT: &str = "default";

/// What `location` says on a host that is in no cluster.
pub const LOCATION_NONE: &str = "none";

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
