//! [`Networks`]: everything that the daemon asks of this room.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    BridgeConfig, Counters, HostLink, Lease, NetworkState, Reservation, Reserved, Result, TapSpec, VethSpec,
};

/// The networks of one state directory.
#[derive(Debug)]
pub struct Networks {
    dir: PathBuf,
}

/// What [`Networks::recover`] removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Bridges.
    pub bridges: Vec<String>,
    /// nftables tables.
    pub tables: Vec<String>,
    /// dnsmasq processes, by the network they served.
    pub servers: Vec<String>,
    /// Folders of networks.
    pub folders: Vec<String>,
}

impl Networks {
    /// Opens the networks whose files live in `dir` (`STATE/networks`), making the folder when it is missing.
    /// The folder and the ones above it should let other users pass (0711), because dnsmasq does not run as root.
    pub fn new(dir: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self { dir: dir.into() })
    }

    /// Fills in what Incus fills in at creation: addresses that are absent become `auto`, `auto` becomes a free subnet
    /// (and NAT is switched on for it), and everything else is checked. Call it once, store the result.
    pub async fn complete_keys(&self, name: &str, keys: &mut BTreeMap<String, String>) -> Result<()> {
        let _ = (name, keys, &self.dir);
        todo!()
    }

    /// Makes the network as `config` says, whatever of it exists already.
    pub async fn ensure_bridge(&self, config: &BridgeConfig) -> Result<()> {
        let _ = config;
        todo!()
    }

    /// Removes the network with all that belongs to it. Succeeds when there is nothing left to remove.
    pub async fn remove_bridge(&self, name: &str) -> Result<()> {
        let _ = name;
        todo!()
    }

    /// The state of any link of the host.
    pub async fn state(&self, name: &str) -> Result<NetworkState> {
        let _ = name;
        todo!()
    }

    /// The leases of a network: reserved, dynamic and its own addresses.
    pub async fn leases(&self, name: &str) -> Result<Vec<Lease>> {
        let _ = name;
        todo!()
    }

    /// All links of the host, for the list of unmanaged networks.
    pub async fn host_links(&self) -> Result<Vec<HostLink>> {
        todo!()
    }

    /// The ports (host ends of taps and veths) that this daemon made and that still exist, by name.
    pub async fn ports(&self) -> Result<Vec<String>> {
        todo!()
    }

    /// A free IPv4 subnet, told by its first address: `10.x.y.1/24`.
    pub async fn pick_ipv4_subnet(&self) -> Result<Ipv4Net> {
        todo!()
    }

    /// A free IPv6 subnet, told by its first address: `fd42:…::1/64`.
    pub async fn pick_ipv6_subnet(&self) -> Result<Ipv6Net> {
        todo!()
    }

    /// Makes a tap, plugs it into its bridge and returns it open. The tap disappears when the last copy of the
    /// descriptor is closed. The descriptor is close-on-exec and non-blocking; frames carry a 12-byte virtio header.
    pub async fn add_tap(&self, spec: &TapSpec) -> Result<OwnedFd> {
        let _ = spec;
        todo!()
    }

    /// Makes a veth pair with one end on the bridge and the other, up and named, in the target's namespace.
    pub async fn add_veth(&self, spec: &VethSpec) -> Result<()> {
        let _ = spec;
        todo!()
    }

    /// Removes a port that this daemon made. Succeeds when there is none of that name.
    pub async fn remove_link(&self, host_name: &str) -> Result<()> {
        let _ = host_name;
        todo!()
    }

    /// Records who has which name and address on a network; replaces an earlier reservation of the same key.
    pub async fn reserve(&self, bridge: &str, reservation: &Reservation) -> Result<Reserved> {
        let _ = (bridge, reservation);
        todo!()
    }

    /// Forgets a reservation. Succeeds when there is none.
    pub async fn release(&self, bridge: &str, key: &str) -> Result<()> {
        let _ = (bridge, key);
        todo!()
    }

    /// Traffic of a port.
    pub async fn link_counters(&self, host_name: &str) -> Result<Counters> {
        let _ = host_name;
        todo!()
    }

    /// Removes everything that carries this daemon's marker and belongs to no network of `expected`.
    pub async fn recover(&self, expected: &BTreeSet<String>) -> Result<Recovered> {
        let _ = expected;
        todo!()
    }
}
