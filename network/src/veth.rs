//! Veth pairs: a container's network card and its other end on the bridge.

use ipnet::IpNet;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::HwAddr;

/// A veth pair to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethSpec {
    /// The name of the end on the host.
    pub host_name: String,
    /// The bridge to plug it into.
    pub bridge: String,
    /// The name of the end in the container.
    pub guest_name: String,
    /// The hardware address of the end in the container.
    pub hwaddr: HwAddr,
    /// Largest packet; the bridge's when `None`.
    pub mtu: Option<u32>,
    /// A process in the network namespace that gets the other end.
    pub target_pid: u32,
    /// Addresses and routes to set inside; `None` leaves that to the container's own DHCP client.
    pub preset: Option<Preset>,
    /// Whether it may talk to the bridge only, not to other isolated ports (`security.port_isolation`).
    pub isolated: bool,
}

/// What is configured inside the container before it starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preset {
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Default router for IPv4.
    pub gateway4: Option<Ipv4Addr>,
    /// Default router for IPv6.
    pub gateway6: Option<Ipv6Addr>,
}
