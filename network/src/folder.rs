//! The folder of one network, `STATE/networks/<name>`: which file is what.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::{BridgeConfig, Error, Result, files};

/// Paths in the folder of a network.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    name: String,
}

impl Folder {
    pub(crate) fn new(networks: &Path, name: &str) -> Self {
        Self {
            root: networks.join(name),
            name: name.to_owned(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// dnsmasq's process number; the path also tells whose dnsmasq a process is.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.root.join("dnsmasq.pid")
    }

    /// What dnsmasq has given out.
    pub(crate) fn leases(&self) -> PathBuf {
        self.root.join("dnsmasq.leases")
    }

    /// One file for each reservation: hardware address, fixed addresses and name. These files are the record
    /// of reservations.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.root.join("dnsmasq.hosts")
    }

    /// One file for each reservation with fixed addresses, as `/etc/hosts` has them; made from the above.
    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("dnsmasq.names")
    }

    fn config(&self) -> PathBuf {
        self.root.join("config.json")
    }

    /// Makes the folders. dnsmasq reads them as its own user, and others may pass through to there.
    pub(crate) fn create(&self) -> Result<()> {
        files::folder(&self.root, 0o711)?;
        files::folder(&self.hosts(), 0o755)?;
        files::folder(&self.names(), 0o755)
    }

    /// Remembers the configuration in force, for what is asked about the network later.
    pub(crate) fn store(&self, config: &BridgeConfig) -> Result<()> {
        let path = self.config();
        let bytes =
            serde_json::to_vec_pretty(config).map_err(|error| Error::io("write", &path)(error.into()))?;
        files::replace(&path, &bytes, 0o600)
    }

    /// The configuration in force.
    pub(crate) fn load(&self) -> Result<BridgeConfig> {
        let path = self.config();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NotFound {
                    name: self.name.clone(),
                });
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        serde_json::from_slice(&bytes).map_err(|error| Error::io("understand", path)(error.into()))
    }

    /// Removes everything.
    pub(crate) fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io("remove", &self.root)(error)),
            _ => Ok(()),
        }
    }
}
