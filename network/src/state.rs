//! What a link looks like now, in the shape that `GET /1.0/networks/{name}/state` shows.

use serde::Serialize;

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
