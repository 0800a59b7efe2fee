//! Devices of an instance as types: what its expanded device entries ask for, or why that cannot be had.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use api::{Devices, InstanceType, Map};
use network::HwAddr;

use crate::{ApiError, config_keys};

/// All devices of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSet {
    /// The root disk.
    pub root: RootDisk,
    /// Further disks, by device name.
    pub disks: Vec<Disk>,
    /// Network cards, by device name.
    pub nics: Vec<Nic>,
}

/// The disk mounted at `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDisk {
    /// Its device name.
    pub device: String,
    /// Its pool.
    pub pool: String,
    /// Its size, if it is limited.
    pub size: Option<u64>,
    /// Whether it is read-only.
    pub read_only: bool,
}

/// Where a further disk comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSource {
    /// A path on the host.
    Host(PathBuf),
    /// A custom volume.
    Volume {
        /// Its pool.
        pool: String,
        /// Its name.
        name: String,
    },
}

/// A further disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its device name.
    pub device: String,
    /// Where it comes from.
    pub source: DiskSource,
    /// Where it is mounted; empty for block devices of virtual machines.
    pub path: String,
    /// Whether it is read-only.
    pub read_only: bool,
    /// Whether ids on it are those of the instance (`shift`).
    pub shift: bool,
    /// Whether its absence is an error.
    pub required: bool,
    /// Whether mounts below the source come along.
    pub recursive: bool,
}

/// Which link of the host a network card is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NicParent {
    /// A network of ours.
    Network(String),
    /// A bridge that somebody else looks after.
    Bridge(String),
}

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// Its device name.
    pub device: String,
    /// Where it is plugged in.
    pub parent: NicParent,
    /// The interface's name inside.
    pub name: String,
    /// Its hardware address, if it is given.
    pub hwaddr: Option<HwAddr>,
    /// Its fixed IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its fixed IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Largest packet.
    pub mtu: Option<u32>,
    /// Name of its host end, if it is given.
    pub host_name: Option<String>,
    /// Whether it may talk to the bridge only.
    pub isolated: bool,
}

/// Keys of disks that are understood.
const DISK_KEYS: [&str; 12] = [
    "type",
    "path",
    "pool",
    "source",
    "size",
    "readonly",
    "shift",
    "required",
    "optional",
    "recursive",
    "boot.priority",
    "propagation",
];
/// Keys of network cards that are understood.
const NIC_KEYS: [&str; 13] = [
    "type",
    "nictype",
    "network",
    "parent",
    "name",
    "hwaddr",
    "ipv4.address",
    "ipv6.address",
    "mtu",
    "host_name",
    "security.port_isolation",
    "boot.priority",
    "queue.tx.length",
];

/// Reads the devices of a complete instance. The errors are Incus' where it has them.
pub fn read(kind: InstanceType, devices: &Devices) -> Result<DeviceSet, ApiError> {
    let mut roots = Vec::new();
    let (mut disks, mut nics) = (Vec::new(), Vec::new());
    let given: Vec<&str> = devices
        .values()
        .filter_map(|keys| keys.get("name"))
        .map(String::as_str)
        .collect();
    let mut numbers = 0_u32..;
    let mut next_free = || {
        numbers.find_map(|number| {
            let name = format!("eth{number}");
            (!given.contains(&name.as_str())).then_some(name)
        })
    };
    for (device, keys) in devices {
        let entry = Entry { device, keys };
        let free_name = if entry.get("type") == "nic" && entry.get("name").is_empty() {
            next_free()
        } else {
            None
        };
        let read = match entry.get("type") {
            "none" => Ok(()),
            "disk" if entry.get("path") == "/" && entry.get("source").is_empty() => {
                entry.root().map(|root| roots.push(root))
            }
            "disk" => entry.disk(kind).map(|disk| disks.push(disk)),
            "nic" => entry.nic(free_name).map(|nic| nics.push(nic)),
            "" => Err("Missing device type in config".to_owned()),
            "gpu" | "infiniband" | "pci" | "proxy" | "tpm" | "unix-block" | "unix-char" | "unix-hotplug"
            | "usb" => Err(format!(
                "Unsupported device type {:?}: this server has disk, nic and none",
                entry.get("type")
            )),
            other => Err(format!("Invalid device type {other:?}")),
        };
        read.map_err(|error| {
            ApiError::bad_request(format!(
                "Invalid devices: Device validation failed for {device:?}: {error}"
            ))
        })?;
    }
    let refuse = |what: &str| {
        ApiError::bad_request(format!(
            "Invalid devices: Failed detecting root disk device: {what}"
        ))
    };
    let mut roots = roots.into_iter();
    let root = roots
        .next()
        .ok_or_else(|| refuse("No root device could be found"))?;
    if roots.next().is_some() {
        return Err(refuse("More than one root device found"));
    }
    let mut names: Vec<&str> = nics.iter().map(|nic: &Nic| nic.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ApiError::bad_request(format!(
            "Invalid devices: Duplicate NIC name {:?}",
            pair[0]
        )));
    }
    Ok(DeviceSet { root, disks, nics })
}

struct Entry<'a> {
    device: &'a str,
    keys: &'a Map,
}

impl Entry<'_> {
    fn get(&self, key: &str) -> &str {
        self.keys.get(key).map_or("", String::as_str)
    }

    fn is_true(&self, key: &str) -> bool {
        config_keys::is_true(self.get(key))
    }

    fn known(&self, keys: &[&str]) -> Result<(), String> {
        match self
            .keys
            .keys()
            .find(|key| !keys.contains(&key.as_str()) && !key.starts_with("user."))
        {
            Some(key) => Err(format!("Invalid device option {key:?}")),
            None => Ok(()),
        }
    }

    fn parse<T: FromStr>(&self, key: &str, what: &str) -> Result<Option<T>, String> {
        let value = self.get(key);
        if value.is_empty() {
            return Ok(None);
        }
        value
            .parse()
            .map(Some)
            .map_err(|_| format!("Invalid value for device option {key:?}: {value:?} is not {what}"))
    }

    fn root(&self) -> Result<RootDisk, String> {
        self.known(&DISK_KEYS)?;
        let pool = self.get("pool");
        if pool.is_empty() {
            return Err("Root disk entry must have a \"pool\" property set".to_owned());
        }
        let size = match self.get("size") {
            "" => None,
            text => Some(
                config_keys::parse_bytes(text)
                    .map_err(|error| format!("Invalid value for device option \"size\": {error}"))?,
            ),
        };
        Ok(RootDisk {
            device: self.device.to_owned(),
            pool: pool.to_owned(),
            size,
            read_only: self.is_true("readonly"),
        })
    }

    fn disk(&self, kind: InstanceType) -> Result<Disk, String> {
        self.known(&DISK_KEYS)?;
        let (pool, source, path) = (self.get("pool"), self.get("source"), self.get("path"));
        if source.is_empty() {
            return Err("Disk entry is missing the required \"source\" or \"path\" property".to_owned());
        }
        if path == "/" {
            return Err("Root disk entry may not have a \"source\" property set".to_owned());
        }
        if kind == InstanceType::Container && !path.starts_with('/') {
            return Err("Disk entry is missing the required \"path\" property".to_owned());
        }
        if path.split('/').any(|part| part == "..") {
            return Err(format!(
                "Invalid value for device option \"path\": {path:?} goes up"
            ));
        }
        let source = if pool.is_empty() {
            if !source.starts_with('/') {
                return Err(format!(
                    "Source path {source:?} is neither a path of the host nor, with \"pool\", a volume"
                ));
            }
            DiskSource::Host(source.into())
        } else {
            DiskSource::Volume {
                pool: pool.to_owned(),
                name: source.to_owned(),
            }
        };
        Ok(Disk {
            device: self.device.to_owned(),
            source,
            path: path.to_owned(),
            read_only: self.is_true("readonly"),
            shift: self.is_true("shift"),
            required: self.get("required") != "false" && !self.is_true("optional"),
            recursive: self.is_true("recursive"),
        })
    }

    fn nic(&self, free_name: Option<String>) -> Result<Nic, String> {
        self.known(&NIC_KEYS)?;
        let parent = match (self.get("network"), self.get("nictype"), self.get("parent")) {
            ("", "bridged", "") => return Err("Missing required option \"parent\"".to_owned()),
            ("", "bridged", parent) => NicParent::Bridge(parent.to_owned()),
            ("", "", _) => return Err("Requires \"network\" or \"nictype\" property".to_owned()),
            ("", other, _) => return Err(format!("Unsupported nictype {other:?}: this server has bridged")),
            (network, "" | "bridged", "") => NicParent::Network(network.to_owned()),
            (_, other, "") => return Err(format!("Unsupported nictype {other:?}: this server has bridged")),
            _ => return Err("Cannot use \"parent\" in conjunction with \"network\" property".to_owned()),
        };
        let name = free_name.unwrap_or_else(|| self.get("name").to_owned());
        network::check_interface_name(&name).map_err(|error| error.to_string())?;
        let host_name = self.get("host_name");
        if !host_name.is_empty() {
            network::check_interface_name(host_name).map_err(|error| error.to_string())?;
        }
        let address = |key: &str| match self.get(key) {
            "none" => Err(format!(
                "Invalid value for device option {key:?}: \"none\" is not supported, leave it out"
            )),
            _ => Ok(()),
        };
        address("ipv4.address")?;
        address("ipv6.address")?;
        Ok(Nic {
            device: self.device.to_owned(),
            parent,
            name,
            hwaddr: self.parse("hwaddr", "a hardware address such as 10:66:6a:01:02:03")?,
            ipv4: self.parse("ipv4.address", "an IPv4 address")?,
            ipv6: self.parse("ipv6.address", "an IPv6 address")?,
            mtu: self.parse("mtu", "a number of bytes")?,
            host_name: (!host_name.is_empty()).then(|| host_name.to_owned()),
            isolated: self.is_true("security.port_isolation"),
        })
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
