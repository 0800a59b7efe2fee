//! [`Networks`]: everything that the daemon asks of this room.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::sync::OwnedMutexGuard;

use crate::folder::Folder;
use crate::netlink::Netlink;
use crate::subnet::{self, Used};
use crate::sysctl::Family;
use crate::{
    BridgeConfig, Counters, Error, HostLink, HwAddr, Lease, LeaseKind, NetworkState, Reservation, Reserved,
    Result, TapSpec, VethSpec, bridge, check_interface_name, dnsmasq, files, firewall, leases, port, release,
    reservation, state, sysctl,
};

/// The networks of one state directory.
#[derive(Debug)]
pub struct Networks {
    dir: PathBuf,
    marker: Marker,
    /// One change at a time for each network.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    step: Step,
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

/// How things that belong to this state directory are recognised.
#[derive(Debug, Clone)]
pub(crate) struct Marker {
    id: String,
}

impl Marker {
    fn new(dir: &Path) -> Self {
        Self {
            id: format!("{:08x}", hash(dir.as_os_str().as_bytes()) as u32),
        }
    }

    /// The alias of our links.
    pub(crate) fn alias(&self) -> String {
        format!("virga:{}", self.id)
    }

    /// The hardware address that a bridge of ours is made with.
    pub(crate) fn hwaddr(&self, name: &str) -> HwAddr {
        HwAddr::from_hash(hash(format!("{}/{name}", self.id).as_bytes()))
    }

    /// The nftables table of a network.
    fn table(&self, name: &str) -> String {
        format!("{}{name}", self.table_prefix())
    }

    fn table_prefix(&self) -> String {
        format!("virga-{}-", self.id)
    }
}

/// FNV-1a (draft-eastlake-fnv): short, and the same in every version of Virga and of Rust.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The places between two steps of an operation. Tests stop an operation there, as a kill of the daemon
/// would.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    #[cfg(test)]
    left: Option<Arc<std::sync::atomic::AtomicUsize>>,
}

impl Step {
    #[cfg(not(test))]
    #[allow(
        clippy::unnecessary_wraps,
        clippy::unused_self,
        reason = "only tests stop here"
    )]
    pub(crate) fn done(&self, _what: &str) -> Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn done(&self, what: &str) -> Result<()> {
        use std::sync::atomic::Ordering;
        let Some(left) = &self.left else { return Ok(()) };
        if left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
        {
            return Ok(());
        }
        Err(Error::system(format!("go on after {what}"))(
            std::io::Error::other("killed by the test"),
        ))
    }
}

impl Networks {
    /// Opens the networks whose files live in `dir` (`STATE/networks`), making the folder when it is missing.
    /// The folder and the ones above it should let other users pass (0711), because dnsmasq does not run as
    /// root then; otherwise it has to.
    pub fn new(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        files::folder(&dir, 0o711)?;
        let dir = dir.canonicalize().map_err(Error::io("find", &dir))?;
        let marker = Marker::new(&dir);
        Ok(Self {
            dir,
            marker,
            turns: Mutex::default(),
            step: Step::default(),
        })
    }

    /// Fills in what Incus fills in at creation: addresses that are absent become `auto`, `auto` becomes a
    /// free subnet (and NAT is switched on for it), and everything else is checked. Call it once, store the
    /// keys.
    pub async fn complete_keys(
        &self,
        name: &str,
        keys: &mut BTreeMap<String, String>,
    ) -> Result<BridgeConfig> {
        check_interface_name(name)?;
        let mut filled = keys.clone();
        for (address, nat) in [("ipv4.address", "ipv4.nat"), ("ipv6.address", "ipv6.nat")] {
            let value = filled.get(address).map_or("", String::as_str);
            if !value.is_empty() && value != "auto" {
                continue;
            }
            let subnet = match address {
                "ipv4.address" => self.pick_ipv4_subnet().await?.to_string(),
                _ if sysctl::has_ipv6() => self.pick_ipv6_subnet().await?.to_string(),
                _ => "none".to_owned(),
            };
            if subnet != "none" && filled.get(nat).is_none_or(String::is_empty) {
                filled.insert(nat.to_owned(), "true".to_owned());
            }
            filled.insert(address.to_owned(), subnet);
        }
        let config = BridgeConfig::from_keys(name, &filled)?;
        self.check_free(&Netlink::open()?, &config).await?;
        *keys = filled;
        Ok(config)
    }

    /// Makes the network as `config` says, whatever of it exists already.
    pub async fn ensure_bridge(&self, config: &BridgeConfig) -> Result<()> {
        check_interface_name(&config.name)?;
        let _turn = self.turn(&config.name).await;
        let netlink = Netlink::open()?;
        bridge::find(&netlink, &self.marker, &config.name).await?;
        self.check_free(&netlink, config).await?;
        let folder = self.folder(&config.name);
        folder.create()?;
        self.step.done("folder made")?;
        folder.store(config)?;
        self.step.done("configuration stored")?;
        let link = bridge::ensure(&netlink, &self.marker, config, &self.step).await?;
        firewall::apply(&self.marker.table(&config.name), config).await?;
        self.step.done("firewall set")?;
        sysctl::forward(&self.dir, &config.name, Family::V4, config.forwards_ipv4())?;
        sysctl::forward(&self.dir, &config.name, Family::V6, config.forwards_ipv6())?;
        self.step.done("forwarding set")?;
        let must_forget = reservation::repair(&folder)?;
        let config = config.clone();
        blocking(move || {
            dnsmasq::ensure(&folder, &config, link.index)?;
            if must_forget {
                dnsmasq::reload(&folder, &config.name)
            } else {
                Ok(())
            }
        })
        .await
    }

    /// Removes the network with all that belongs to it. Succeeds when there is nothing left to remove.
    pub async fn remove_bridge(&self, name: &str) -> Result<()> {
        check_interface_name(name)?;
        let _turn = self.turn(name).await;
        let netlink = Netlink::open()?;
        let folder = self.folder(name);
        let (stopping, network) = (folder.clone(), name.to_owned());
        blocking(move || dnsmasq::stop(&stopping, &network)).await?;
        self.step.done("server stopped")?;
        bridge::remove(&netlink, &self.marker, name).await?;
        self.step.done("bridge removed")?;
        firewall::remove(&self.marker.table(name), name).await?;
        self.step.done("firewall removed")?;
        // The folder goes last: while it is there, it tells the next daemon that something may be left.
        folder.remove()?;
        self.step.done("folder removed")?;
        Family::ALL
            .into_iter()
            .try_for_each(|family| sysctl::restore_unneeded(&self.dir, family))
    }

    /// The state of any link of the host.
    pub async fn state(&self, name: &str) -> Result<NetworkState> {
        state::read(&Netlink::open()?, name).await
    }

    /// The leases of a network: its own addresses, reserved ones and dynamic ones.
    pub async fn leases(&self, name: &str) -> Result<Vec<Lease>> {
        check_interface_name(name)?;
        let folder = self.folder(name);
        let config = folder.load()?;
        let own = config.ipv4.map(|net| IpAddr::V4(net.addr())).into_iter();
        let own = own.chain(config.ipv6.map(|net| IpAddr::V6(net.addr())));
        let mut found: Vec<Lease> = own
            .map(|address| Lease {
                hostname: format!("{name}.gw"),
                hwaddr: String::new(),
                address,
                kind: LeaseKind::Gateway,
            })
            .collect();
        let entries = reservation::all(&folder)?;
        for entry in &entries {
            let fixed = entry
                .ipv4
                .map(IpAddr::V4)
                .into_iter()
                .chain(entry.ipv6.map(IpAddr::V6));
            found.extend(fixed.map(|address| Lease {
                hostname: entry.hostname.clone(),
                hwaddr: entry.hwaddr.to_string(),
                address,
                kind: LeaseKind::Static,
            }));
        }
        for given in leases::read(&folder.leases())? {
            if found.iter().any(|lease| lease.address == given.address) {
                continue;
            }
            let entry = entries.iter().find(|entry| Some(entry.hwaddr) == given.hwaddr);
            let hostname = entry.map(|entry| entry.hostname.clone()).or(given.hostname);
            found.push(Lease {
                hostname: hostname.unwrap_or_default(),
                hwaddr: given.hwaddr.map(|hwaddr| hwaddr.to_string()).unwrap_or_default(),
                address: given.address,
                kind: LeaseKind::Dynamic,
            });
        }
        Ok(found)
    }

    /// All links of the host, for the list of unmanaged networks.
    pub async fn host_links(&self) -> Result<Vec<HostLink>> {
        let links = Netlink::open()?.links().await?;
        Ok(links
            .iter()
            .map(|link| state::describe(link, link.alias == self.marker.alias()))
            .collect())
    }

    /// The ports (host ends of taps and veths) that this daemon made and that still exist, by name.
    pub async fn ports(&self) -> Result<Vec<String>> {
        let links = Netlink::open()?.links().await?;
        Ok(links
            .into_iter()
            .filter(|link| port::is_ours(&self.marker, link))
            .map(|link| link.name)
            .collect())
    }

    /// A free IPv4 subnet, told by its first address: `10.x.y.1/24`.
    pub async fn pick_ipv4_subnet(&self) -> Result<Ipv4Net> {
        let used = self.used(&Netlink::open()?, "").await?;
        subnet::free_ipv4(&used, &mut rand::rng()).ok_or_else(|| Error::Exhausted {
            network: String::new(),
            what: "IPv4 subnet",
        })
    }

    /// A free IPv6 subnet, told by its first address: `fd42:…::1/64`.
    pub async fn pick_ipv6_subnet(&self) -> Result<Ipv6Net> {
        let used = self.used(&Netlink::open()?, "").await?;
        subnet::free_ipv6(&used, &mut rand::rng()).ok_or_else(|| Error::Exhausted {
            network: String::new(),
            what: "IPv6 subnet",
        })
    }

    /// Makes a tap, plugs it into its bridge and returns it open. The tap disappears when the last copy of
    /// the descriptor is closed. The descriptor is close-on-exec and non-blocking; frames carry a 12-byte
    /// virtio header.
    pub async fn add_tap(&self, spec: &TapSpec) -> Result<OwnedFd> {
        port::add_tap(&Netlink::open()?, &self.marker, spec).await
    }

    /// Makes a veth pair with one end on the bridge and the other, up and named, in the target's namespace.
    pub async fn add_veth(&self, spec: &VethSpec) -> Result<()> {
        port::add_veth(&Netlink::open()?, &self.marker, spec).await
    }

    /// Removes a port that this daemon made. Succeeds when there is none of that name.
    pub async fn remove_link(&self, host_name: &str) -> Result<()> {
        port::remove(&Netlink::open()?, &self.marker, host_name).await
    }

    /// Records who has which name and address on a network; replaces an earlier reservation of the same key.
    pub async fn reserve(&self, bridge: &str, wanted: &Reservation) -> Result<Reserved> {
        check_interface_name(bridge)?;
        let _turn = self.turn(bridge).await;
        let folder = self.folder(bridge);
        let config = folder.load()?;
        let given = leases::read(&folder.leases())?;
        let (entry, must_forget) = reservation::reserve(&folder, &config, wanted, &given)?;
        if must_forget {
            dnsmasq::reload(&folder, bridge)?;
        }
        Ok(reservation::describe(&config, &entry))
    }

    /// Forgets a reservation. Succeeds when there is none.
    pub async fn release(&self, bridge: &str, key: &str) -> Result<()> {
        check_interface_name(bridge)?;
        let _turn = self.turn(bridge).await;
        let folder = self.folder(bridge);
        if let Some(entry) = reservation::find(&folder, key)?
            && let Ok(config) = folder.load()
        {
            let given = leases::read(&folder.leases())?;
            release::give_back(&config, &given, entry.hwaddr);
        }
        self.step.done("leases given back")?;
        if reservation::release(&folder, key)? {
            dnsmasq::reload(&folder, bridge)?;
        }
        Ok(())
    }

    /// Traffic of a port.
    pub async fn link_counters(&self, host_name: &str) -> Result<Counters> {
        Ok(Netlink::open()?.expect_link(host_name).await?.counters)
    }

    /// Removes everything that carries this daemon's marker and belongs to no network of `expected`.
    pub async fn recover(&self, expected: &BTreeSet<String>) -> Result<Recovered> {
        let mut recovered = Recovered::default();
        let (dir, names) = (self.dir.clone(), expected.clone());
        recovered.servers = blocking(move || dnsmasq::stop_others(&dir, |name| names.contains(name))).await?;
        let netlink = Netlink::open()?;
        for link in netlink.links().await? {
            if bridge::is_ours(&self.marker, &link) && !expected.contains(&link.name) {
                netlink.delete(&link).await?;
                recovered.bridges.push(link.name);
            }
        }
        let prefix = self.marker.table_prefix();
        for table in firewall::tables(&prefix).await? {
            let name = table.strip_prefix(&prefix).unwrap_or_default();
            if !expected.contains(name) {
                firewall::remove(&table, name).await?;
                recovered.tables.push(table);
            }
        }
        for name in files::names(&self.dir)? {
            if !expected.contains(&name) && self.dir.join(&name).is_dir() {
                self.folder(&name).remove()?;
                recovered.folders.push(name);
            }
        }
        Family::ALL
            .into_iter()
            .try_for_each(|family| sysctl::restore_unneeded(&self.dir, family))?;
        Ok(recovered)
    }

    fn folder(&self, name: &str) -> Folder {
        Folder::new(&self.dir, name)
    }

    /// Waits for the others who are changing this network.
    async fn turn(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // Networks that nobody is changing need no entry.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(name.to_owned()).or_default())
        };
        turn.lock_owned().await
    }

    /// Every subnet in use, other than by the network itself.
    async fn used(&self, netlink: &Netlink, network: &str) -> Result<Vec<Used>> {
        let links: HashMap<u32, String> = netlink
            .links()
            .await?
            .into_iter()
            .map(|link| (link.index, link.name))
            .collect();
        let name = |index: Option<u32>| {
            index
                .and_then(|index| links.get(&index))
                .map_or("?", String::as_str)
        };
        let mut used = Vec::new();
        for address in netlink.addresses().await? {
            let link = name(Some(address.index));
            // Every link has its own fe80::/64; 127.0.0.0/8 is nobody's to give.
            let is_link_local = matches!(address.net, IpNet::V6(net) if net.addr().is_unicast_link_local());
            if link != network && !is_link_local {
                used.push(Used {
                    net: address.net,
                    user: format!("link {link}"),
                    is_local: true,
                });
            }
        }
        for route in netlink.routes().await? {
            let link = name(route.index);
            if link != network {
                used.push(Used {
                    net: route.net,
                    user: format!("a route by link {link}"),
                    is_local: false,
                });
            }
        }
        for other in files::names(&self.dir)?
            .into_iter()
            .filter(|other| other != network)
        {
            let Ok(config) = self.folder(&other).load() else {
                continue;
            };
            let nets = config
                .ipv4
                .map(IpNet::V4)
                .into_iter()
                .chain(config.ipv6.map(IpNet::V6));
            used.extend(nets.map(|net| Used {
                net,
                user: format!("network {other}"),
                is_local: true,
            }));
        }
        Ok(used)
    }

    async fn check_free(&self, netlink: &Netlink, config: &BridgeConfig) -> Result<()> {
        let used = self.used(netlink, &config.name).await?;
        for net in config
            .ipv4
            .map(IpNet::V4)
            .into_iter()
            .chain(config.ipv6.map(IpNet::V6))
        {
            if let Some(other) = subnet::conflict(net, &used) {
                return Err(Error::AddressInUse {
                    address: net.to_string(),
                    user: format!("{} ({})", other.user, other.net),
                });
            }
        }
        Ok(())
    }
}

/// Runs work that waits for processes or disks on a thread made for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => Err(Error::system("finish work on a network")(std::io::Error::other(
            error,
        ))),
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
