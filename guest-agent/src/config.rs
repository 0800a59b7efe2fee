//! What a microVM is told at boot: `/virga/config.json` in the second archive of its initrd.
//!
//! The daemon writes it, the agent as first process obeys it. The same program builds both, so unknown fields
//! are mistakes and are refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the agent finds its configuration in the initrd.
pub const CONFIG_PATH: &str = "/virga/config.json";

/// A microVM's identity and surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestConfig {
    /// Host name; empty leaves the image's.
    pub hostname: String,
    /// The root file system.
    pub root: RootConfig,
    /// Interfaces, matched by hardware address.
    pub nics: Vec<NicConfig>,
    /// What runs after the agent has set everything up.
    pub init: InitMode,
    /// Variables for the image's init or the command.
    pub environment: BTreeMap<String, String>,
    /// Where the agent listens.
    pub listen: Listen,
}

/// The root file system of a microVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RootConfig {
    /// Block device.
    pub device: String,
    /// File system type; found out from the superblock when absent.
    pub fstype: Option<String>,
    /// Mount read-only.
    pub read_only: bool,
    /// Let the file system grow to the size of the device (ext4).
    pub grow: bool,
    /// Keep all changes in memory, above a root that stays as it is.
    pub overlay: bool,
}

impl Default for RootConfig {
    fn default() -> Self {
        Self {
            device: "/dev/vda".into(),
            fstype: None,
            read_only: false,
            grow: false,
            overlay: false,
        }
    }
}

/// One interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NicConfig {
    /// Hardware address that identifies it, `aa:bb:cc:dd:ee:ff`.
    pub hwaddr: String,
    /// Name it gets; empty keeps the kernel's.
    pub name: String,
    /// Addresses with prefix length. Without any, the link is only brought up.
    pub addresses: Vec<Cidr>,
    /// Default route of IPv4.
    pub gateway4: Option<Ipv4Addr>,
    /// Default route of IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Largest packet; absent keeps the device's.
    pub mtu: Option<u32>,
}

/// What becomes of the first process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitMode {
    /// The image's init system, or, where it has none, the same as `None`.
    #[default]
    Image,
    /// The agent stays the first process: it reaps and serves.
    None,
    /// The agent stays the first process and runs this; the VM powers off when it ends.
    Command(Vec<String>),
}

/// Where the agent of a microVM can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Listen {
    /// A port of the vsock device.
    Vsock(u32),
    /// A character device (a port of a virtio console, a serial line): one request after the other. For
    /// machine monitors without vsock.
    Device(String),
}

impl Default for Listen {
    fn default() -> Self {
        Self::Vsock(crate::protocol::VSOCK_PORT)
    }
}

/// An address with its prefix length, `10.1.2.3/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address itself (not the network's).
    pub address: IpAddr,
    /// Length of the network's prefix.
    pub prefix: u8,
}

/// A string is not an address with prefix length.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an address with prefix length, such as 10.1.2.3/24")]
pub struct CidrError(String);

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= longest).then_some(Self { address, prefix })
        };
        parse().ok_or_else(|| CidrError(text.to_owned()))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
