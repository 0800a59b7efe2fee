//! The configuration of a bridge, from the keys that the API stores (`ipv4.address`, `dns.domain`, …).
//!
//! What a key means, its default and the wording of refusals follow Incus (its
//! `doc/reference/network_bridge.md`). Values that later stand in command lines of dnsmasq or in firewall
//! rules are checked here, once.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::names::{check_domain, check_interface_name};
use crate::{Error, HwAddr, Result};

/// The MTU of Ethernet, and so of a bridge that is not told otherwise.
const DEFAULT_MTU: u32 = 1500;
/// What DHCP leases last when nothing is said.
const DEFAULT_EXPIRY: &str = "1h";
/// The domain of instances when nothing is said.
const DEFAULT_DOMAIN: &str = "incus";

/// Keys that Incus' bridges have and ours do not yet; they are refused with a reason of their own.
const UNSUPPORTED: [&str; 21] = [
    "bgp.ipv4.nexthop",
    "bgp.ipv6.nexthop",
    "bridge.external_interfaces",
    "dns.nameservers",
    "dns.zone.forward",
    "dns.zone.reverse.ipv4",
    "dns.zone.reverse.ipv6",
    "ipv4.dhcp.routes",
    "ipv4.nat.address",
    "ipv4.nat.order",
    "ipv4.ovn.ranges",
    "ipv4.routes",
    "ipv6.nat.address",
    "ipv6.nat.order",
    "ipv6.ovn.ranges",
    "ipv6.routes",
    "raw.dnsmasq",
    "security.acls",
    "security.acls.default.egress.action",
    "security.acls.default.ingress.action",
    "security.acls.default.egress.logged",
];

/// Who decides the names that the network's DNS answers to (`dns.mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpRange<T> {
    /// First address.
    pub first: T,
    /// Last address, included.
    pub last: T,
}

/// A bridge as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    /// Whether packets of the network are forwarded: `true` makes the host forward, `false` has the firewall
    /// drop them, and without a word the host forwards when NAT is on.
    pub ipv4_routing: Option<bool>,
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
    /// As `ipv4_routing`.
    pub ipv6_routing: Option<bool>,
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
    /// Reads the keys of a network. `auto` addresses must have been replaced
    /// ([`crate::Networks::complete_keys`]). Keys that are empty count as absent, keys of users (`user.*`)
    /// are passed over, and all others are refused as Incus refuses them.
    pub fn from_keys(name: &str, keys: &BTreeMap<String, String>) -> Result<Self> {
        check_interface_name(name)?;
        let mut config = Self {
            name: name.to_owned(),
            ipv4: None,
            ipv4_nat: false,
            ipv4_dhcp: true,
            ipv4_dhcp_expiry: DEFAULT_EXPIRY.to_owned(),
            ipv4_dhcp_ranges: Vec::new(),
            ipv4_dhcp_gateway: None,
            ipv4_firewall: true,
            ipv4_routing: None,
            ipv6: None,
            ipv6_nat: false,
            ipv6_dhcp: true,
            ipv6_dhcp_stateful: false,
            ipv6_dhcp_expiry: DEFAULT_EXPIRY.to_owned(),
            ipv6_dhcp_ranges: Vec::new(),
            ipv6_firewall: true,
            ipv6_routing: None,
            dns_domain: DEFAULT_DOMAIN.to_owned(),
            dns_mode: DnsMode::Managed,
            dns_search: Vec::new(),
            mtu: DEFAULT_MTU,
            hwaddr: None,
        };
        for (key, value) in keys {
            if key.starts_with("user.") || value.is_empty() && is_known(key) {
                continue;
            }
            config.set(key, value).map_err(|refusal| match refusal {
                Refusal::Key => Error::UnknownKey {
                    network: name.to_owned(),
                    key: key.clone(),
                },
                Refusal::Value(reason) => Error::InvalidValue {
                    network: name.to_owned(),
                    key: key.clone(),
                    reason,
                },
            })?;
        }
        config.check_together()?;
        Ok(config)
    }

    /// Whether the host has to forward IPv4 packets for this network.
    pub fn forwards_ipv4(&self) -> bool {
        self.ipv4.is_some() && self.ipv4_routing.unwrap_or(self.ipv4_nat)
    }

    /// Whether the host has to forward IPv6 packets for this network.
    pub fn forwards_ipv6(&self) -> bool {
        self.ipv6.is_some() && self.ipv6_routing.unwrap_or(self.ipv6_nat)
    }

    fn set(&mut self, key: &str, value: &str) -> std::result::Result<(), Refusal> {
        match key {
            "bridge.driver" => match value {
                "native" => {}
                _ => return Err(value_refusal(format_args!("{value:?} is not one of: native"))),
            },
            "bridge.mtu" => self.mtu = mtu(value)?,
            "bridge.hwaddr" => self.hwaddr = Some(parse(value)?),
            "dns.domain" => self.dns_domain = domain(value)?,
            "dns.mode" => self.dns_mode = dns_mode(value)?,
            "dns.search" => {
                self.dns_search = list(value).map(domain).collect::<std::result::Result<_, _>>()?
            }
            "ipv4.address" => self.ipv4 = ipv4_address(value)?,
            "ipv4.nat" => self.ipv4_nat = boolean(value)?,
            "ipv4.dhcp" => self.ipv4_dhcp = boolean(value)?,
            "ipv4.dhcp.expiry" => self.ipv4_dhcp_expiry = expiry(value)?,
            "ipv4.dhcp.gateway" => self.ipv4_dhcp_gateway = Some(parse(value)?),
            "ipv4.dhcp.ranges" => self.ipv4_dhcp_ranges = ranges(value)?,
            "ipv4.firewall" => self.ipv4_firewall = boolean(value)?,
            "ipv4.routing" => self.ipv4_routing = Some(boolean(value)?),
            "ipv6.address" => self.ipv6 = ipv6_address(value)?,
            "ipv6.nat" => self.ipv6_nat = boolean(value)?,
            "ipv6.dhcp" => self.ipv6_dhcp = boolean(value)?,
            "ipv6.dhcp.stateful" => self.ipv6_dhcp_stateful = boolean(value)?,
            "ipv6.dhcp.expiry" => self.ipv6_dhcp_expiry = expiry(value)?,
            "ipv6.dhcp.ranges" => self.ipv6_dhcp_ranges = ranges(value)?,
            "ipv6.firewall" => self.ipv6_firewall = boolean(value)?,
            "ipv6.routing" => self.ipv6_routing = Some(boolean(value)?),
            _ if UNSUPPORTED.contains(&key) => {
                return Err(value_refusal(format_args!(
                    "Virga does not support this option yet (value {value:?})"
                )));
            }
            _ => return Err(Refusal::Key),
        }
        Ok(())
    }

    /// Checks what no key can say alone.
    fn check_together(&self) -> Result<()> {
        let refuse = |key: &str, reason: String| {
            Err(Error::InvalidValue {
                network: self.name.clone(),
                key: key.to_owned(),
                reason,
            })
        };
        if let Some(net) = self.ipv4
            && let Some(range) = self
                .ipv4_dhcp_ranges
                .iter()
                .find(|range| !net.contains(&range.first) || !net.contains(&range.last))
        {
            return refuse(
                "ipv4.dhcp.ranges",
                format!("{}-{} is outside {}", range.first, range.last, net.trunc()),
            );
        }
        if let Some(net) = self.ipv6
            && let Some(range) = self
                .ipv6_dhcp_ranges
                .iter()
                .find(|range| !net.contains(&range.first) || !net.contains(&range.last))
        {
            return refuse(
                "ipv6.dhcp.ranges",
                format!("{}-{} is outside {}", range.first, range.last, net.trunc()),
            );
        }
        if let (Some(net), Some(gateway)) = (self.ipv4, self.ipv4_dhcp_gateway)
            && !net.contains(&gateway)
        {
            return refuse(
                "ipv4.dhcp.gateway",
                format!("{gateway} is outside {}", net.trunc()),
            );
        }
        // RFC 8200 §5: IPv6 needs links that carry 1280 bytes.
        if self.ipv6.is_some() && self.mtu < 1280 {
            return refuse(
                "bridge.mtu",
                format!("{} is below 1280, the least that IPv6 works with", self.mtu),
            );
        }
        Ok(())
    }
}

/// Why a key was not taken.
enum Refusal {
    Key,
    Value(String),
}

fn value_refusal(reason: impl Display) -> Refusal {
    Refusal::Value(reason.to_string())
}

/// Whether bridges have the key at all, so that an empty value unsets it rather than being a mistake.
fn is_known(key: &str) -> bool {
    const KNOWN: [&str; 22] = [
        "bridge.driver",
        "bridge.hwaddr",
        "bridge.mtu",
        "dns.domain",
        "dns.mode",
        "dns.search",
        "ipv4.address",
        "ipv4.dhcp",
        "ipv4.dhcp.expiry",
        "ipv4.dhcp.gateway",
        "ipv4.dhcp.ranges",
        "ipv4.firewall",
        "ipv4.nat",
        "ipv4.routing",
        "ipv6.address",
        "ipv6.dhcp",
        "ipv6.dhcp.expiry",
        "ipv6.dhcp.ranges",
        "ipv6.dhcp.stateful",
        "ipv6.firewall",
        "ipv6.nat",
        "ipv6.routing",
    ];
    KNOWN.contains(&key) || UNSUPPORTED.contains(&key)
}

fn parse<T: FromStr<Err: Display>>(value: &str) -> std::result::Result<T, Refusal> {
    value
        .parse()
        .map_err(|error| value_refusal(format_args!("{value:?}: {error}")))
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn boolean(value: &str) -> std::result::Result<bool, Refusal> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(value_refusal(format_args!(
            "Invalid value for a boolean {value:?}"
        ))),
    }
}

fn mtu(value: &str) -> std::result::Result<u32, Refusal> {
    match value.parse() {
        Ok(mtu @ 68..=16384) => Ok(mtu),
        _ => Err(value_refusal(format_args!(
            "MTU must be between 68 and 16384, not {value:?}"
        ))),
    }
}

fn domain(value: &str) -> std::result::Result<String, Refusal> {
    check_domain(value).map_err(|error| value_refusal(format_args!("{value:?}: {error}")))?;
    Ok(value.to_owned())
}

fn dns_mode(value: &str) -> std::result::Result<DnsMode, Refusal> {
    match value {
        "none" => Ok(DnsMode::None),
        "managed" => Ok(DnsMode::Managed),
        "dynamic" => Ok(DnsMode::Dynamic),
        _ => Err(value_refusal(format_args!(
            "{value:?} is not one of: dynamic, managed, none"
        ))),
    }
}

/// A lease time as dnsmasq reads it: a number with an optional unit, or `infinite`.
fn expiry(value: &str) -> std::result::Result<String, Refusal> {
    let number = value.strip_suffix(['s', 'm', 'h', 'd', 'w']).unwrap_or(value);
    let is_number =
        !number.is_empty() && number.len() <= 9 && number.bytes().all(|byte| byte.is_ascii_digit());
    if value == "infinite" || is_number {
        return Ok(value.to_owned());
    }
    Err(value_refusal(format_args!(
        "{value:?} is not a lease time such as 1h, 30m or infinite"
    )))
}

fn ranges<T: FromStr<Err: Display> + PartialOrd>(
    value: &str,
) -> std::result::Result<Vec<IpRange<T>>, Refusal> {
    list(value)
        .map(|text| {
            let (first, last) = text.split_once('-').ok_or_else(|| {
                value_refusal(format_args!("{text:?} is not a range of the form FIRST-LAST"))
            })?;
            let range = IpRange {
                first: parse::<T>(first.trim())?,
                last: parse::<T>(last.trim())?,
            };
            if range.first > range.last {
                return Err(value_refusal(format_args!(
                    "the range {text:?} ends before it begins"
                )));
            }
            Ok(range)
        })
        .collect()
}

fn ipv4_address(value: &str) -> std::result::Result<Option<Ipv4Net>, Refusal> {
    let net: Ipv4Net = match value {
        "none" => return Ok(None),
        "auto" => return Err(value_refusal("\"auto\" was not replaced by a subnet")),
        _ => value
            .parse()
            .map_err(|_| value_refusal(format_args!("Not an IPv4 CIDR address {value:?}")))?,
    };
    let address = net.addr();
    if !(8..=30).contains(&net.prefix_len()) {
        return Err(value_refusal(format_args!(
            "the prefix length of {value:?} is not between 8 and 30"
        )));
    }
    if address == net.network() || address == net.broadcast() || !is_unicast(address) {
        return Err(value_refusal(format_args!("Not a usable IPv4 address {value:?}")));
    }
    Ok(Some(net))
}

fn is_unicast(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    (1..224).contains(&first) && first != 127
}

fn ipv6_address(value: &str) -> std::result::Result<Option<Ipv6Net>, Refusal> {
    let net: Ipv6Net = match value {
        "none" => return Ok(None),
        "auto" => return Err(value_refusal("\"auto\" was not replaced by a subnet")),
        _ => value
            .parse()
            .map_err(|_| value_refusal(format_args!("Not an IPv6 CIDR address {value:?}")))?,
    };
    let address = net.addr();
    if !(16..=126).contains(&net.prefix_len()) {
        return Err(value_refusal(format_args!(
            "the prefix length of {value:?} is not between 16 and 126"
        )));
    }
    let refused = address == net.network()
        || address.is_multicast()
        || address.is_loopback()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some();
    if refused {
        return Err(value_refusal(format_args!("Not a usable IPv6 address {value:?}")));
    }
    Ok(Some(net))
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
