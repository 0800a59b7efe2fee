//! The leases that dnsmasq gave out, read from its lease file.

use std::net::IpAddr;

use serde::Serialize;

/// One line of `GET /1.0/networks/{name}/leases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lease {
    /// The instance's name, or `<network>.gw` for the network's own address.
    pub hostname: String,
    /// Its hardware address; empty for the network's own.
    pub hwaddr: String,
    /// The address.
    pub address: IpAddr,
    /// How it came about.
    #[serde(rename = "type")]
    pub kind: LeaseKind,
}

/// How an address came to its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseKind {
    /// Reserved.
    Static,
    /// Given by DHCP from the range.
    Dynamic,
    /// The network's own address.
    Gateway,
}
