//! Reservations: which instance has which name and which fixed addresses on a network.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::HwAddr;

/// How an address is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Choice<T> {
    /// Whatever DHCP (or the guest itself, for IPv6) comes to; nothing is fixed.
    #[default]
    Dynamic,
    /// Virga picks a free address and keeps it for this reservation; the same one when asked again.
    Pick,
    /// This one.
    Fixed(T),
}

/// A claim of an instance's network card on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Unique on the network and stable, for example `c1.eth0`; letters, digits, `.`, `_` and `-`.
    pub key: String,
    /// The DNS name the instance answers to: `c1`.
    pub hostname: String,
    /// The card's hardware address.
    pub hwaddr: HwAddr,
    /// Its IPv4 address.
    pub ipv4: Choice<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Choice<Ipv6Addr>,
}

/// What a reservation comes to: everything a guest needs to configure itself without asking DHCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// The fixed IPv4 address with the network's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// The fixed IPv6 address with the network's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// The network's IPv4 router.
    pub gateway4: Option<Ipv4Addr>,
    /// The network's IPv6 router.
    pub gateway6: Option<Ipv6Addr>,
    /// Name servers.
    pub dns: Vec<std::net::IpAddr>,
    /// The domain to search, when the network has one.
    pub search: Vec<String>,
    /// The network's MTU.
    pub mtu: u32,
}
