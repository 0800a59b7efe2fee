//! [`StatePaths`]: where everything lies below the state directory.

use std::path::{Path, PathBuf};

/// The layout of one state directory.
#[derive(Debug, Clone)]
pub struct StatePaths {
    root: PathBuf,
}

impl StatePaths {
    /// The layout below `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The state directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.root.join("unix.socket")
    }

    /// The file that one daemon holds locked.
    pub fn lock(&self) -> PathBuf {
        self.root.join("virgad.lock")
    }

    /// The store.
    pub fn database(&self) -> PathBuf {
        self.root.join("database.sqlite")
    }

    /// Image files.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The file of an image: the whole of a unified one, the metadata of a split one.
    pub fn image(&self, fingerprint: &str) -> PathBuf {
        self.images().join(fingerprint)
    }

    /// The root file system of a split image.
    pub fn image_rootfs(&self, fingerprint: &str) -> PathBuf {
        self.images().join(format!("{fingerprint}.rootfs"))
    }

    /// Uploads that are not complete; emptied at each start.
    pub fn uploads(&self) -> PathBuf {
        self.images().join(".uploads")
    }

    /// Storage pools.
    pub fn storage_pools(&self) -> PathBuf {
        self.root.join("storage-pools")
    }

    /// A storage pool.
    pub fn storage_pool(&self, name: &str) -> PathBuf {
        self.storage_pools().join(name)
    }

    /// Files of networks.
    pub fn networks(&self) -> PathBuf {
        self.root.join("networks")
    }

    /// Logs of all instances.
    pub fn all_logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Logs of an instance, by its name on disk ([`Self::disk_name`]).
    pub fn logs(&self, disk_name: &str) -> PathBuf {
        self.all_logs().join(disk_name)
    }

    /// Run directories of all instances.
    pub fn all_runs(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The run directory of an instance, by its name on disk ([`Self::disk_name`]).
    pub fn run(&self, disk_name: &str) -> PathBuf {
        self.all_runs().join(disk_name)
    }

    /// What an instance or volume is called on disk: its name in the default project, `PROJECT_NAME` in others.
    /// Projects have no underscore in their names; a name of the default project that has one gets its project's
    /// name in front too, so that no two names meet.
    pub fn disk_name(project: &str, name: &str) -> String {
        if project == api::DEFAULT_PROJECT && !name.contains('_') {
            name.to_owned()
        } else {
            format!("{project}_{name}")
        }
    }
}
