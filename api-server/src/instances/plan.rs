//! [`StartPlan`]: everything a driver needs to know to start an instance, found out before anything is done.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use network::{HwAddr, Reserved};

use super::devices::{Disk, Nic};
use super::expand::Expanded;
use super::record::InstanceRecord;

/// An instance about to start.
#[derive(Debug)]
pub struct StartPlan {
    /// The instance.
    pub record: InstanceRecord,
    /// Its configuration with profiles.
    pub config: Expanded,
    /// Its run directory, which exists and is empty.
    pub run_dir: PathBuf,
    /// Its log directory, which exists.
    pub log_dir: PathBuf,
    /// Its root file system (container) or root disk (virtual machine).
    pub root: PathBuf,
    /// Whether the root is read-only.
    pub root_read_only: bool,
    /// Further disks with the path of their source.
    pub disks: Vec<(Disk, PathBuf)>,
    /// Network cards.
    pub ports: Vec<Port>,
    /// First of the private ids of the instance and how many there are; `None` for a privileged container.
    pub ids: Option<(u32, u32)>,
    /// The guest kernel that the server's configuration names.
    pub server_kernel: Option<PathBuf>,
}

/// A network card about to be plugged in.
#[derive(Debug)]
pub struct Port {
    /// The device.
    pub nic: Nic,
    /// The bridge.
    pub bridge: String,
    /// Name of the host's end.
    pub host_name: String,
    /// Hardware address inside.
    pub hwaddr: HwAddr,
    /// Its addresses, on networks of ours.
    pub reserved: Option<Reserved>,
    /// A virtual machine's tap, open.
    pub tap: Option<OwnedFd>,
}

impl Port {
    /// Largest packet.
    pub fn mtu(&self) -> Option<u32> {
        self.nic
            .mtu
            .or_else(|| self.reserved.as_ref().map(|reserved| reserved.mtu))
    }

    /// Addresses with prefix lengths that are known before the start.
    pub fn addresses(&self) -> Vec<(IpAddr, u8)> {
        let Some(reserved) = &self.reserved else {
            return Vec::new();
        };
        let v4 = reserved
            .ipv4
            .map(|net| (IpAddr::V4(net.addr()), net.prefix_len()));
        let v6 = reserved
            .ipv6
            .map(|net| (IpAddr::V6(net.addr()), net.prefix_len()));
        v4.into_iter().chain(v6).collect()
    }
}
