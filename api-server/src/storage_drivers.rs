//! [`StorageDrivers`]: which storage drivers are in use and which could be.

use std::collections::BTreeMap;

use api::ServerStorageDriver;

use crate::Daemon;
use crate::store::{keys, list_as};

/// Storage drivers of this host with their versions.
#[derive(Debug, Clone, Default)]
pub struct StorageDrivers {
    in_use: BTreeMap<String, String>,
    supported: Vec<ServerStorageDriver>,
}

impl StorageDrivers {
    /// Names of the drivers that pools use: `btrfs | dir`.
    pub fn in_use_names(&self) -> String {
        self.in_use
            .keys()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// Their versions, in the same order.
    pub fn in_use_versions(&self) -> String {
        self.in_use
            .values()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// All drivers that work here.
    pub fn supported(&self) -> Vec<ServerStorageDriver> {
        self.supported.clone()
    }
}

/// The drivers that work here.
pub fn probe() -> Vec<ServerStorageDriver> {
    let supported = storage::driver::supported().into_iter();
    supported
        .map(|driver| ServerStorageDriver {
            name: driver.name.to_owned(),
            version: driver.version,
            remote: false,
        })
        .collect()
}

impl Daemon {
    /// Storage drivers: what the store's pools use, what the host could.
    pub fn storage_drivers(&self) -> StorageDrivers {
        let supported = self.supported_drivers.clone();
        let in_use = list_as::<api::StoragePool>(&*self.store, keys::STORAGE_POOLS)
            .unwrap_or_default()
            .into_iter()
            .map(|(pool, _)| {
                let version = supported.iter().find(|driver| driver.name == pool.driver);
                (
                    pool.driver,
                    version.map(|driver| driver.version.clone()).unwrap_or_default(),
                )
            })
            .collect();
        StorageDrivers { in_use, supported }
    }
}
