//! What a link looks like now, in the shape that `GET /1.0/networks/{name}/state` shows.

use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{InfoKind, LinkFlags};
use serde::Serialize;

use crate::Result;
use crate::netlink::{Link, Netlink};

/// The state of one link; serialises as the API's `NetworkState`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkState {
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Traffic since it was made.
    pub counters: Counters,
    /// Hardware address, empty when the link has none.
    pub hwaddr: String,
    /// Largest packet.
    pub mtu: u32,
    /// `up` or `down`.
    pub state: String,
    /// `broadcast`, `loopback` or `point-to-point`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always `null`: Virga does not report bonds.
    pub bond: Option<()>,
    /// Set for bridges.
    pub bridge: Option<BridgeState>,
    /// Always `null`: Virga does not report VLANs.
    pub vlan: Option<()>,
    /// Always `null` for bridges.
    pub ovn: Option<()>,
}

/// One address of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// `inet` or `inet6`.
    pub family: String,
    /// The address alone.
    pub address: String,
    /// The prefix length, as text.
    pub netmask: String,
    /// `global`, `link` or `local`.
    pub scope: String,
}

/// Traffic of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Bytes that came in.
    pub bytes_received: u64,
    /// Bytes that went out.
    pub bytes_sent: u64,
    /// Packets that came in.
    pub packets_received: u64,
    /// Packets that went out.
    pub packets_sent: u64,
}

/// What is special to a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BridgeState {
    /// Priority and hardware address, as spanning tree names it: `8000.10666a295772`.
    pub id: String,
    /// Whether spanning tree runs.
    pub stp: bool,
    /// Spanning tree's forward delay in hundredths of a second.
    pub forward_delay: u64,
    /// The VLAN of untagged frames; 0 while the bridge does not filter VLANs.
    pub vlan_default: u64,
    /// Whether the bridge filters VLANs.
    pub vlan_filtering: bool,
    /// The links plugged into it, by name.
    pub upper_devices: Vec<String>,
}

/// A link of the host, for the list of networks that are not managed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLink {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Whether this daemon made it.
    pub ours: bool,
}

/// What a host link is, in the API's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// `lo`.
    Loopback,
    /// A bridge.
    Bridge,
    /// A VLAN on another link.
    Vlan,
    /// A bond.
    Bond,
    /// A device with hardware (or a virtual machine's idea of it) behind it.
    Physical,
    /// Anything else.
    Unknown,
}

impl LinkKind {
    /// The word that the API uses as a network's `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Bridge => "bridge",
            Self::Vlan => "vlan",
            Self::Bond => "bond",
            Self::Physical => "physical",
            Self::Unknown => "unknown",
        }
    }
}

/// Reads the state of a link.
pub(crate) async fn read(netlink: &Netlink, name: &str) -> Result<NetworkState> {
    let link = netlink.expect_link(name).await?;
    let addresses = netlink
        .addresses()
        .await?
        .into_iter()
        .filter(|address| address.index == link.index);
    let addresses = addresses
        .map(|address| Address {
            family: if matches!(address.net, IpNet::V4(_)) {
                "inet"
            } else {
                "inet6"
            }
            .to_owned(),
            address: address.net.addr().to_string(),
            netmask: address.net.prefix_len().to_string(),
            scope: match address.scope {
                AddressScope::Link => "link",
                AddressScope::Host => "local",
                _ => "global",
            }
            .to_owned(),
        })
        .collect();
    let mut bridge = link.bridge.clone();
    if let Some(bridge) = &mut bridge {
        let ports = netlink
            .links()
            .await?
            .into_iter()
            .filter(|port| port.controller == Some(link.index));
        bridge.upper_devices = ports.map(|port| port.name).collect();
        bridge.upper_devices.sort();
    }
    let kind = if link.flags.contains(LinkFlags::Loopback) {
        "loopback"
    } else if link.flags.contains(LinkFlags::Pointopoint) {
        "point-to-point"
    } else if link.flags.contains(LinkFlags::Broadcast) {
        "broadcast"
    } else {
        "unknown"
    };
    let is_addressed = link.hwaddr.len() == 6 && !link.flags.contains(LinkFlags::Loopback);
    let hwaddr: Vec<String> = link
        .hwaddr
        .iter()
        .filter(|_| is_addressed)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(NetworkState {
        addresses,
        counters: link.counters,
        hwaddr: hwaddr.join(":"),
        mtu: link.mtu,
        state: if link.flags.contains(LinkFlags::Up) {
            "up"
        } else {
            "down"
        }
        .to_owned(),
        kind: kind.to_owned(),
        bond: None,
        bridge,
        vlan: None,
        ovn: None,
    })
}

/// Describes a link for the list of networks.
pub(crate) fn describe(link: &Link, ours: bool) -> HostLink {
    let kind = match &link.kind {
        _ if link.flags.contains(LinkFlags::Loopback) => LinkKind::Loopback,
        Some(InfoKind::Bridge) => LinkKind::Bridge,
        Some(InfoKind::Vlan) => LinkKind::Vlan,
        Some(InfoKind::Bond) => LinkKind::Bond,
        None if link.has_device => LinkKind::Physical,
        _ => LinkKind::Unknown,
    };
    HostLink {
        name: link.name.clone(),
        kind,
        ours,
    }
}
