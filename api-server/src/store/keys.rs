//! Where documents lie. One function per kind, so that no key is written by hand.
//!
//! | key | document |
//! | --- | --- |
//! | `config/server` | `Map` |
//! | `projects/P` | [`api::Project`] |
//! | `profiles/P/N` | [`api::Profile`] |
//! | `networks/P/N` | [`api::Network`] |
//! | `storage-pools/N` | [`api::StoragePool`] |
//! | `volumes/POOL/P/KIND/N` | [`api::StorageVolume`], custom volumes only: an instance's volume is told by its own document |
//! | `volume-snapshots/POOL/P/KIND/N/S` | [`api::StorageVolumeSnapshot`], custom volumes only |
//! | `images/P/FINGERPRINT` | [`api::Image`] (without `aliases`) |
//! | `aliases/P/N` | [`api::ImageAliasesEntry`] |
//! | `instances/P/N` | at its top level at least `profiles`, `devices`, `config` and `type` as in [`api::Instance`] |
//! | `snapshots/P/INSTANCE/S` | at its top level at least `profiles`, `devices` and `config` |
//! | `warnings/ID` | [`api::Warning`] |
//! | `certificates/FINGERPRINT` | [`api::Certificate`] |
//! | `intents/KIND/…` | something that was begun and not ended; see [`crate::recovery`] |
//!
//! Names never contain a slash, except alias names, whose slashes are written as `%2F`.

/// The server's configuration.
pub const SERVER_CONFIG: &str = "config/server";

/// All projects.
pub const PROJECTS: &str = "projects/";
/// All profiles.
pub const PROFILES: &str = "profiles/";
/// All networks.
pub const NETWORKS: &str = "networks/";
/// All storage pools.
pub const STORAGE_POOLS: &str = "storage-pools/";
/// All volumes.
pub const VOLUMES: &str = "volumes/";
/// All images.
pub const IMAGES: &str = "images/";
/// All image aliases.
pub const ALIASES: &str = "aliases/";
/// All instances.
pub const INSTANCES: &str = "instances/";
/// All instance snapshots.
pub const SNAPSHOTS: &str = "snapshots/";
/// All warnings.
pub const WARNINGS: &str = "warnings/";
/// All certificates.
pub const CERTIFICATES: &str = "certificates/";
/// Everything that was begun and not ended.
pub const INTENTS: &str = "intents/";

/// A project.
pub fn project(name: &str) -> String {
    format!("projects/{name}")
}

/// A profile.
pub fn profile(project: &str, name: &str) -> String {
    format!("profiles/{project}/{name}")
}

/// All profiles of a project.
pub fn profiles(project: &str) -> String {
    format!("profiles/{project}/")
}

/// A network.
pub fn network(project: &str, name: &str) -> String {
    format!("networks/{project}/{name}")
}

/// All networks of a project.
pub fn networks(project: &str) -> String {
    format!("networks/{project}/")
}

/// A storage pool.
pub fn storage_pool(name: &str) -> String {
    format!("storage-pools/{name}")
}

/// A volume; `kind` as on the wire (`container`, `virtual-machine`, `custom`).
pub fn volume(pool: &str, project: &str, kind: &str, name: &str) -> String {
    format!("volumes/{pool}/{project}/{kind}/{name}")
}

/// All volumes of a pool.
pub fn pool_volumes(pool: &str) -> String {
    format!("volumes/{pool}/")
}

/// All volumes of a pool and a project.
pub fn volumes(pool: &str, project: &str) -> String {
    format!("volumes/{pool}/{project}/")
}

/// A snapshot of a volume.
pub fn volume_snapshot(pool: &str, project: &str, kind: &str, volume: &str, name: &str) -> String {
    format!("volume-snapshots/{pool}/{project}/{kind}/{volume}/{name}")
}

/// All snapshots of a volume.
pub fn volume_snapshots(pool: &str, project: &str, kind: &str, volume: &str) -> String {
    format!("volume-snapshots/{pool}/{project}/{kind}/{volume}/")
}

/// An image.
pub fn image(project: &str, fingerprint: &str) -> String {
    format!("images/{project}/{fingerprint}")
}

/// All images of a project.
pub fn images(project: &str) -> String {
    format!("images/{project}/")
}

/// An image alias.
pub fn alias(project: &str, name: &str) -> String {
    format!(
        "aliases/{project}/{}",
        name.replace('%', "%25").replace('/', "%2F")
    )
}

/// All image aliases of a project.
pub fn aliases(project: &str) -> String {
    format!("aliases/{project}/")
}

/// An instance.
pub fn instance(project: &str, name: &str) -> String {
    format!("instances/{project}/{name}")
}

/// All instances of a project.
pub fn instances(project: &str) -> String {
    format!("instances/{project}/")
}

/// A snapshot of an instance.
pub fn snapshot(project: &str, instance: &str, name: &str) -> String {
    format!("snapshots/{project}/{instance}/{name}")
}

/// All snapshots of an instance.
pub fn snapshots(project: &str, instance: &str) -> String {
    format!("snapshots/{project}/{instance}/")
}

/// A warning.
pub fn warning(id: &str) -> String {
    format!("warnings/{id}")
}

/// A certificate.
pub fn certificate(fingerprint: &str) -> String {
    format!("certificates/{fingerprint}")
}

/// Something begun: `kind` says what recovers it, `id` tells it from others of its kind.
pub fn intent(kind: &str, id: &str) -> String {
    format!("intents/{kind}/{id}")
}

/// The parts of a key: `["instances", "default", "c1"]`.
pub fn parts(key: &str) -> Vec<&str> {
    key.split('/').collect()
}
