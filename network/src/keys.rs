//! The configuration of a bridge, from the keys that the API stores (`ipv4.address`, `dns.domain`, …).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::{HwAddr, Result};

/// Who decides the names that the network's DNS answers to (`dns.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsMode {
    /// No DNS at all.
    None,
    /// The names of the instances.
    #[default]
    Managed,
    /// The names that DHCP clients ask for.
    Dynamic,
}

/// The first and last address of a DHCP range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange<T> {
    /// First address.
    pub first: T,
    /// Last address, included.
    pub last: T,
}

/// A bridge as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The name of the network and of the link.
    pub name: String,
    /// The bridge's own IPv4 address and prefix.
    pub ipv4: Option<Ipv4Net>,
    /// Whether instances leave the host under its address.
    pub ipv4_nat: bool,
    /// Whether addresses are given by DHCP.
    pub ipv4_dhcp: bool,
    /// Lease time (`1h`).
    pub ipv4_dhcp_expiry: String,
    /// Ranges for DHCP; the whole subnet when empty.
    pub ipv4_dhcp_ranges: Vec<IpRange<Ipv4Addr>>,
    /// The router that DHCP announces when it is not the bridge.
    pub ipv4_dhcp_gateway: Option<Ipv4Addr>,
    /// Whether firewall rules let traffic to and from instances pass.
    pub ipv4_firewall: bool,
    /// Whether the host forwards packets of the network.
    pub ipv4_routing: bool,
    /// The bridge's own IPv6 address and prefix.
    pub ipv6: Option<Ipv6Net>,
    /// Whether instances leave the host under its address.
    pub ipv6_nat: bool,
    /// Whether DHCPv6 serves (names and DNS only unless stateful).
    pub ipv6_dhcp: bool,
    /// Whether DHCPv6 gives addresses.
    pub ipv6_dhcp_stateful: bool,
    /// Lease time (`1h`).
    pub ipv6_dhcp_expiry: String,
    /// Ranges for DHCPv6; the whole subnet when empty.
    pub ipv6_dhcp_ranges: Vec<IpRange<Ipv6Addr>>,
    /// Whether firewall rules let traffic to and from instances pass.
    pub ipv6_firewall: bool,
    /// Whether the host forwards packets of the network.
    pub ipv6_routing: bool,
    /// The domain below which instances have names.
    pub dns_domain: String,
    /// Who decides the names.
    pub dns_mode: DnsMode,
    /// Domains that clients search, instead of the one they are in.
    pub dns_search: Vec<String>,
    /// MTU, 1500 unless given.
    pub mtu: u32,
    /// Hardware address of the bridge; one made from its name unless given.
    pub hwaddr: Option<HwAddr>,
}

impl BridgeConfig {
    /// Reads the keys of a network. `auto` addresses must have been replaced ([`crate::Networks::complete_keys`]).
    /// Keys that are empty count as absent, keys of users (`user.*`) are passed over, and all others refused as
    /// Incus refuses them.
    pub fn from_keys(name: &str, keys: &BTreeMap<String, String>) -> Result<Self> {
        let _ = (name, keys);
        todo!()
    }
}
